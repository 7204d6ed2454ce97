// Control messages: what the `indrafs` command and a vault's daemon say to each other, as bytes.
//
// Shapes:   a frame is u32 length of what follows, u8 type, u32 length of the head, head (JSON), body
// (bytes);
//           integers little-endian. length <= kMaxFrame, head <= kMaxHead and nested at most kMaxDepth deep.
//           Names are bytes: in JSON a string where they are UTF-8, else {"hex": "..."}.
// Threads:  pure functions; a FrameReader belongs to one thread.
// Errors:   EPROTO for anything that is not such a frame. Unknown fields are ignored.
// Source:   docs/design/daemon.md.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace indra {

using Json = nlohmann::json;

inline constexpr std::size_t kBodySize = 1 << 20;  ///< file bytes in one frame, at most
inline constexpr std::size_t kMaxHead = 512 << 10;
inline constexpr std::size_t kMaxFrame = kBodySize + kMaxHead + 5;
inline constexpr int kMaxDepth = 16;

enum class FrameType : std::uint8_t { json = 1, data = 2, end = 3, error = 4 };

struct Message {
  FrameType type = FrameType::json;
  Json head = Json::object();
  Bytes body;
};

/// The frame's bytes before the body (the body follows as it is). EMSGSIZE when a part is too long.
[[nodiscard]] Result<std::string> encode_prefix(const Message&);

/// Takes bytes in any portions, gives messages.
class FrameReader {
 public:
  void feed(ByteView bytes);
  /// The next whole message, nothing while more bytes are needed, or EPROTO (then the stream is over).
  [[nodiscard]] Result<std::optional<Message>> next();
  /// Bytes that are known to be missing until the next message; never 0.
  [[nodiscard]] std::size_t wanted() const;
  /// No part of a message is held.
  [[nodiscard]] bool empty() const { return buffer_.size() == at_; }

 private:
  Bytes buffer_;
  std::size_t at_ = 0;
};

[[nodiscard]] bool is_utf8(std::string_view) noexcept;
[[nodiscard]] Json name_to_json(std::string_view bytes);
[[nodiscard]] std::optional<std::string> name_from_json(const Json&);

// Fields of a head that came from outside: of the right kind, or the fallback.
[[nodiscard]] std::string text_field(const Json&, const char* key, std::string_view fallback = {});
[[nodiscard]] std::int64_t int_field(const Json&, const char* key, std::int64_t fallback = 0);
[[nodiscard]] bool bool_field(const Json&, const char* key, bool fallback = false);
/// A name or path; nothing when absent or malformed.
[[nodiscard]] std::optional<std::string> name_field(const Json&, const char* key);

/// An error as a message, and back.
[[nodiscard]] Message error_message(const Error&);
[[nodiscard]] Error error_of(const Message&);

}  // namespace indra
