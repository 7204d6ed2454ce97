#include "backup/internal/state.h"

#include <algorithm>

#include "blob/hash.h"

namespace indra::backup {
namespace {

constexpr std::string_view kMagic = "IndraBak";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHead = 112, kPack = 16, kRecord = 64, kSeal = 32;
constexpr std::uint64_t kRootBit = 1ull << 63;

Failure damaged(const char* what) { return fail(Errc::corrupt, std::string{"state of the backup: "} + what); }

}  // namespace

bool matches(const Record& r, ByteView bytes) {
  if (bytes.size() != r.length || bytes.empty()) return false;
  if (r.root) return std::ranges::equal(BlobHash::of(bytes).bytes(), r.cv);
  return chunk_cv(r.index, bytes).bytes == r.cv;
}

const Record* State::find(std::uint64_t where) const {
  const auto it = std::ranges::lower_bound(records, where, {}, &Record::where);
  return it != records.end() && it->where == where ? &*it : nullptr;
}

Bytes State::encode() const {
  Bytes out(kHead + packs.size() * kPack + records.size() * kRecord + kSeal);
  std::byte* p = out.data();
  std::memcpy(p, kMagic.data(), kMagic.size());
  store_le(p + 8, kVersion);
  store_le(p + 16, number);
  store_le(p + 24, made);
  store_le<std::uint32_t>(p + 32, static_cast<std::uint32_t>(packs.size()));
  store_le<std::uint64_t>(p + 40, records.size());
  std::memcpy(p + 48, vault_id.data(), 32);
  std::memcpy(p + 80, player.data(), 32);
  p += kHead;
  for (const auto& [pack, bytes] : packs) {
    store_le(p, pack);
    store_le(p + 8, bytes);
    p += kPack;
  }
  for (const Record& r : records) {
    store_le(p, r.where);
    store_le(p + 8, r.index | (r.root ? kRootBit : 0));
    store_le(p + 16, r.length);
    store_le(p + 20, r.pack);
    store_le(p + 24, r.offset);
    std::memcpy(p + 32, r.cv.data(), 32);
    p += kRecord;
  }
  const BlobHash seal = BlobHash::of(ByteView{out}.first(out.size() - kSeal));
  std::memcpy(p, seal.bytes().data(), kSeal);
  return out;
}

Result<State> State::parse(ByteView b) {
  if (b.size() < 12 || as_text(b.first(8)) != kMagic)
    return fail(Errc::bad_format, "state of the backup: it is none");
  if (load_le<std::uint32_t>(b.data() + 8) > kVersion) return fail(Errc::newer_format, "state of the backup");
  if (b.size() < kHead + kSeal) return damaged("cut short");
  if (!std::ranges::equal(BlobHash::of(b.first(b.size() - kSeal)).bytes(), b.last(kSeal)))
    return damaged("its seal is broken");
  State s;
  const std::byte* p = b.data();
  s.number = load_le<std::uint64_t>(p + 16);
  s.made = load_le<TimeNs>(p + 24);
  const auto packs = load_le<std::uint32_t>(p + 32);
  const auto records = load_le<std::uint64_t>(p + 40);
  std::memcpy(s.vault_id.data(), p + 48, 32);
  std::memcpy(s.player.data(), p + 80, 32);
  const std::size_t body = b.size() - kHead - kSeal;
  if (packs > body / kPack || records > (body - packs * kPack) / kRecord ||
      body != packs * kPack + records * kRecord)
    return damaged("wrong length");
  p += kHead;
  for (std::uint32_t i = 0; i < packs; ++i, p += kPack)
    if (!s.packs.try_emplace(load_le<std::uint32_t>(p), load_le<std::uint64_t>(p + 8)).second)
      return damaged("a pack twice");
  s.records.reserve(records);
  for (std::uint64_t i = 0; i < records; ++i, p += kRecord) {
    Record r;
    r.where = load_le<std::uint64_t>(p);
    const auto index = load_le<std::uint64_t>(p + 8);
    r.index = index & ~kRootBit;
    r.root = (index & kRootBit) != 0;
    r.length = load_le<std::uint32_t>(p + 16);
    r.pack = load_le<std::uint32_t>(p + 20);
    r.offset = load_le<std::uint64_t>(p + 24);
    std::memcpy(r.cv.data(), p + 32, 32);
    if (r.length == 0 || r.length > kBlockMax || r.segment() == 0 || r.segment() > kLastFile)
      return damaged("a block that cannot be");
    const auto pack = s.packs.find(r.pack);
    if (pack == s.packs.end() || r.offset < kPackHeader || r.offset > pack->second ||
        r.length > pack->second - r.offset)
      return damaged("a block outside of its pack");
    const Record* before = s.records.empty() ? nullptr : &s.records.back();
    if (before != nullptr && before->where >= r.where) return damaged("blocks out of order");
    if (r.is_file()) {
      // One behind the other, all but the last whole.
      const bool first = before == nullptr || before->segment() != r.segment();
      if (!r.root || r.place() != (first ? 0 : before->place() + 1) ||
          (!first && before->length != kBlockMax))
        return damaged("a file with a gap");
    } else if (r.place() < kSegmentHeader) {
      if (r.place() != 0 || r.length != kSegmentHeader || !r.root || r.index > UINT32_MAX)
        return damaged("a segment's header that cannot be");
    } else if (std::uint64_t{r.place()} + r.length > UINT32_MAX) {
      return damaged("a block that no segment can hold");
    }
    s.records.push_back(r);
  }
  return s;
}

}  // namespace indra::backup
