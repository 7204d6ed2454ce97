#include "cli/pack.h"

#include <algorithm>

namespace indra::cli {
namespace {

constexpr std::string_view kMagic = "IndraPck";
constexpr std::uint32_t kVersion = 1;

Failure damaged(const char* what) {
  return fail(Errc::corrupt, std::string{"the pack is damaged: "} + what + "; nothing of it was taken");
}

}  // namespace

PackSeal::PackSeal() {
  std::memcpy(head_.data(), kMagic.data(), kMagic.size());
  store_le(head_.data() + 8, kVersion);
  seal_ = BlobHash::of(ByteView{head_}.first(32));
  std::memcpy(head_.data() + 32, seal_.bytes().data(), 32);
}

ByteView PackSeal::next(ByteView message) {
  joined_.assign(seal_.bytes().begin(), seal_.bytes().end());
  joined_.insert(joined_.end(), message.begin(), message.end());
  seal_ = BlobHash::of(joined_);
  return seal_.bytes();
}

Result<void> PackWriter::put(const Message& m) {
  INDRA_LET(const std::string prefix, encode_prefix(m));
  const ByteView head = as_view(prefix);
  Bytes whole{head.begin(), head.end()};
  whole.insert(whole.end(), m.body.begin(), m.body.end());
  const ByteView seal = seal_.next(whole);
  whole.insert(whole.end(), seal.begin(), seal.end());
  return write_(whole);
}

Result<void> PackWriter::begin(Json about) {
  INDRA_TRY(write_(seal_.head()));
  Message m;
  m.head = std::move(about);
  return put(m);
}

Result<void> PackWriter::add(const Message& item) {
  ++items_;
  bytes_ += item.body.size();
  return put(item);
}

Result<void> PackWriter::end() {
  Message m;
  m.type = FrameType::end;
  m.head = {{"messages", items_}, {"bytes", bytes_}};
  return put(m);
}

Result<void> PackReader::all(MutableBytes out) {
  INDRA_LET(const std::size_t n, read_(out));
  return n == out.size() ? Result<void>{} : damaged("it is cut short");
}

Result<Message> PackReader::get() {
  std::array<std::byte, 4> length{};
  INDRA_TRY(all(length));
  const auto n = load_le<std::uint32_t>(length.data());
  if (n > kMaxFrame) return damaged("a message that is too long");
  Bytes whole(length.size() + n);
  std::ranges::copy(length, whole.begin());
  INDRA_TRY(all(MutableBytes{whole}.subspan(length.size())));
  std::array<std::byte, PackSeal::kSize> seal{};
  INDRA_TRY(all(seal));
  if (!std::ranges::equal(seal_.next(whole), seal)) return damaged("a seal is broken");
  FrameReader frames;
  frames.feed(whole);
  auto m = frames.next();
  if (!m || !*m || !frames.empty()) return damaged("a message that is none");
  return std::move(**m);
}

Result<Json> PackReader::begin() {
  std::array<std::byte, PackSeal::kHead> head{};
  INDRA_LET(const std::size_t n, read_(head));
  if (n < kMagic.size() || as_text(ByteView{head}.first(kMagic.size())) != kMagic)
    return fail(Errc::bad_format, "this is no pack; `indrafs pack` makes one");
  if (n >= 12 && load_le<std::uint32_t>(head.data() + 8) > kVersion)
    return fail(Errc::newer_format, "the pack");
  if (n < head.size() || !std::ranges::equal(head, seal_.head())) return damaged("its head");
  INDRA_LET(Message m, get());
  if (m.type != FrameType::json || !m.body.empty()) return damaged("its first message");
  return std::move(m.head);
}

Result<std::optional<Message>> PackReader::next() {
  INDRA_LET(Message m, get());
  if (m.type == FrameType::data) {
    ++items_;
    bytes_ += m.body.size();
    return std::optional{std::move(m)};
  }
  if (m.type != FrameType::end || int_field(m.head, "messages", -1) != static_cast<std::int64_t>(items_) ||
      int_field(m.head, "bytes", -1) != static_cast<std::int64_t>(bytes_))
    return damaged("its end");
  std::array<std::byte, 1> more{};
  INDRA_LET(const std::size_t n, read_(more));
  if (n != 0) return damaged("something follows its end");
  return std::nullopt;
}

}  // namespace indra::cli
