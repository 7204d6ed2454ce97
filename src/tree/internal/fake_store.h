// A content store for tests of the tree: references and nothing else.
#pragma once
#include <map>

#include "blob/content_store.h"

namespace indra {

class FakeStore final : public ContentStore {
 public:
  std::map<BlobId, std::int64_t> refs;  // 0: known, not referred to
  std::map<BlobId, int> content;        // what it says; rewritten in place by tests
  BlobInfo make(int says, std::uint64_t size = 100) {
    const BlobId id{static_cast<std::int64_t>(refs.size()) + 1};
    refs[id] = 0;
    content[id] = says;
    return BlobInfo{.id = id, .size = size, .hash = {}, .stored = size, .refs = 0};
  }
  Result<void> sync_content() override { return {}; }
  bool content_dirty() const override { return false; }
  Result<std::unique_ptr<Content>> open_content(BucketId, BlobId) override { return fail(ENOSYS); }
  Result<std::unique_ptr<Content>> open_frozen(BucketId, BlobId) override { return fail(ENOSYS); }
  Result<BlobInfo> info(Tx&, BlobId id) override {
    if (!refs.contains(id)) return fail(ENOENT);
    return BlobInfo{.id = id, .size = 0, .hash = {}, .stored = 0, .refs = refs[id]};
  }
  Result<void> add_ref(Tx&, BlobId id) override {
    if (!refs.contains(id)) return fail(ENOENT, "add_ref");
    ++refs[id];
    return {};
  }
  Result<void> drop_ref(Tx&, BlobId id) override {
    if (refs[id] <= 0) return fail(EIO, "drop_ref of a blob without references");
    --refs[id];
    return {};
  }
  Result<BlobHash> hash(BlobId, bool) override { return fail(ENOSYS); }
  Result<bool> work(Work) override { return false; }
  Result<bool> at_rest(Work) override { return true; }
  std::shared_ptr<void> hold() override { return {}; }
  Result<ScrubSlice> scrub(ScrubPlace, std::uint64_t) override { return fail(ENOSYS); }
  std::uint64_t unwritten() const override { return 0; }
  Result<Stats> stats() override { return Stats{}; }
};

}  // namespace indra
