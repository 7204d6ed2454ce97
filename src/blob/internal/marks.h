// What marking needs: rows of blobs with their manifests, and sets of bytes.
#pragma once
#include <algorithm>
#include <map>

#include "blob/internal/store.h"

namespace indra::blob {

/// Sets of bytes (or rows), by `where`.
class Ranges {
 public:
  void add(std::uint64_t from, std::uint64_t n) {
    auto it = by_.lower_bound(from);
    if (it != by_.begin() && std::prev(it)->second >= from) --it;
    std::uint64_t to = from + n;
    while (it != by_.end() && it->first <= to && it->first >> 32 == from >> 32) {
      from = std::min(from, it->first);
      to = std::max(to, it->second);
      it = by_.erase(it);
    }
    by_[from] = to;
  }
  void subtract(std::uint64_t from, std::uint64_t n) {
    const std::uint64_t to = from + n;
    auto it = by_.upper_bound(from);
    if (it != by_.begin()) --it;
    while (it != by_.end() && it->first < to) {
      const auto [a, b] = *it;
      if (b <= from) {
        ++it;
        continue;
      }
      it = by_.erase(it);
      if (a < from) by_[a] = from;
      if (b > to) by_[to] = b;
    }
  }
  [[nodiscard]] std::vector<Extent> extents() const {
    std::vector<Extent> out;
    for (const auto& [from, to] : by_)
      out.push_back({static_cast<std::uint32_t>(from >> 32), static_cast<std::uint32_t>(from),
                     static_cast<std::uint32_t>(to - from)});
    return out;
  }
  [[nodiscard]] bool empty() const { return by_.empty(); }

 private:
  std::map<std::uint64_t, std::uint64_t> by_;
};

struct Row {
  BlobId id;
  Manifest m;
  Bytes data;  // of a manifest: its root page as it was read
  bool is_inline = false;
  std::int64_t refs = 0;
};

inline Result<Row> row_of(Statement& q) {  // id, size, hash, form, data, refs
  Row r;
  r.id = q.id_at<BlobId>(0);
  r.m.size = static_cast<std::uint64_t>(q.int64_at(1));
  std::optional<BlobHash> hash;
  if (!q.is_null(2)) hash = BlobHash::from_digest(q.blob_at(2));
  r.is_inline = q.int64_at(3) == 0;
  auto page = std::make_shared<Page>();
  if (!r.is_inline) {
    const ByteView data = q.blob_at(4);
    r.data.assign(data.begin(), data.end());
    INDRA_TRY(decode_page(data, hash, *page));
  }
  r.m.root = std::move(page);
  r.refs = q.int64_at(5);
  return r;
}

}  // namespace indra::blob
