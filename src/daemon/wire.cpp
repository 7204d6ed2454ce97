#include "daemon/wire.h"

#include <algorithm>
#include <cerrno>

namespace indra {
namespace {

constexpr std::size_t kFixed = 5;  // type and head length, counted in the frame's length

/// Deeply nested text is refused before it is parsed: printing and destroying such values recurses.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

Failure malformed(const char* what) { return fail(EPROTO, std::string{"control message: "} + what); }

}  // namespace

Result<std::string> encode_prefix(const Message& m) {
  std::string head = m.head.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (head.size() > kMaxHead || m.body.size() > kBodySize) return fail(EMSGSIZE, "control message");
  std::string out(4 + kFixed, '\0');
  auto* p = reinterpret_cast<std::byte*>(out.data());
  store_le(p, static_cast<std::uint32_t>(kFixed + head.size() + m.body.size()));
  p[4] = static_cast<std::byte>(m.type);
  store_le(p + 5, static_cast<std::uint32_t>(head.size()));
  out += head;
  return out;
}

void FrameReader::feed(ByteView bytes) {
  if (at_ == buffer_.size()) {
    buffer_.clear();
    at_ = 0;
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

std::size_t FrameReader::wanted() const {
  const std::size_t have = buffer_.size() - at_;
  if (have < 4) return 4 - have;
  const std::size_t whole =
      4 + std::min<std::size_t>(load_le<std::uint32_t>(buffer_.data() + at_), kMaxFrame);
  return whole > have ? whole - have : 1;
}

Result<std::optional<Message>> FrameReader::next() {
  const std::size_t have = buffer_.size() - at_;
  if (have < 4) return std::nullopt;
  const std::byte* p = buffer_.data() + at_;
  const std::size_t length = load_le<std::uint32_t>(p);
  if (length < kFixed || length > kMaxFrame) return malformed("length out of bounds");
  if (have < 4 + length) return std::nullopt;
  const auto type = static_cast<std::uint8_t>(p[4]);
  const std::size_t head = load_le<std::uint32_t>(p + 5);
  if (type < 1 || type > 4) return malformed("unknown type");
  if (head > kMaxHead || head > length - kFixed) return malformed("head longer than its frame");
  if (length - kFixed - head > kBodySize) return malformed("body too long");
  const std::string_view text{reinterpret_cast<const char*>(p + 4 + kFixed), head};
  if (too_deep(text)) return malformed("nested too deeply");
  Message m;
  m.type = static_cast<FrameType>(type);
  m.head = Json::parse(text, nullptr, false);
  if (m.head.is_discarded() || !m.head.is_object()) return malformed("the head is no JSON object");
  m.body.assign(p + 4 + kFixed + head, p + 4 + length);
  at_ += 4 + length;
  if (at_ == buffer_.size()) {
    buffer_.clear();
    at_ = 0;
  } else if (at_ > kMaxFrame) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ = 0;
  }
  return m;
}

bool is_utf8(std::string_view s) noexcept {
  for (std::size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (c < 0x80) {
      ++i;
      continue;
    }
    const int n = c >= 0xC2 && c < 0xE0 ? 1 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xF0 && c < 0xF5 ? 3 : 0;
    if (n == 0 || i + static_cast<std::size_t>(n) >= s.size() + 0u) return false;
    for (int k = 1; k <= n; ++k) {
      const auto d = static_cast<unsigned char>(s[i + static_cast<std::size_t>(k)]);
      if ((d & 0xC0) != 0x80) return false;
      if (k == 1 && ((c == 0xE0 && d < 0xA0) || (c == 0xED && d > 0x9F) || (c == 0xF0 && d < 0x90) ||
                     (c == 0xF4 && d > 0x8F)))
        return false;
    }
    i += static_cast<std::size_t>(n) + 1;
  }
  return true;
}

Json name_to_json(std::string_view bytes) {
  if (is_utf8(bytes)) return std::string{bytes};
  return Json{{"hex", to_hex(as_view(bytes))}};
}

std::optional<std::string> name_from_json(const Json& j) {
  if (j.is_string()) return j.get<std::string>();
  if (!j.is_object()) return std::nullopt;
  const auto it = j.find("hex");
  if (it == j.end() || !it->is_string()) return std::nullopt;
  const auto& text = it->get_ref<const std::string&>();
  const Bytes b = from_hex(text);
  if (b.empty() && !text.empty()) return std::nullopt;
  return std::string{as_text(b)};
}

std::string text_field(const Json& j, const char* key, std::string_view fallback) {
  const auto it = j.find(key);
  return it != j.end() && it->is_string() ? it->get<std::string>() : std::string{fallback};
}

std::int64_t int_field(const Json& j, const char* key, std::int64_t fallback) {
  const auto it = j.find(key);
  return it != j.end() && it->is_number_integer() ? it->get<std::int64_t>() : fallback;
}

bool bool_field(const Json& j, const char* key, bool fallback) {
  const auto it = j.find(key);
  return it != j.end() && it->is_boolean() ? it->get<bool>() : fallback;
}

std::optional<std::string> name_field(const Json& j, const char* key) {
  const auto it = j.find(key);
  return it != j.end() ? name_from_json(*it) : std::nullopt;
}

Message error_message(const Error& e) {
  Message m;
  m.type = FrameType::error;
  const bool ours = e.code.category() == indra_category();
  m.head = {{"errno", to_errno(e)}, {"context", name_to_json(e.context)}, {"message", e.code.message()}};
  if (ours) m.head["kind"] = e.code.value();
  return m;
}

Error error_of(const Message& m) {
  std::string context = name_field(m.head, "context").value_or("");
  const auto number = static_cast<int>(int_field(m.head, "errno", EIO));
  const auto kind = static_cast<int>(int_field(m.head, "kind"));
  if (kind >= static_cast<int>(Errc::corrupt) && kind <= static_cast<int>(Errc::failed))
    return {make_error_code(static_cast<Errc>(kind)), std::move(context)};
  return {std::error_code{number > 0 && number < 4096 ? number : EIO, std::generic_category()},
          std::move(context)};
}

}  // namespace indra
