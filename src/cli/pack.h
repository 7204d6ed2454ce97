// A branch or snapshot as one portable file: written and read as a stream.
//
// Shapes:   docs/formats/packed-v1.md: a head, then messages (daemon/wire.h), each followed by a seal over
//           itself and all before it.
// Errors:   Errc::corrupt for anything that is not as it was written, Errc::newer_format, Errc::bad_format
// (no
//           pack at all), and the errno of the descriptor. A reader trusts nothing that it reads.
// Source:   docs/design/backup.md (P1..).
#pragma once
#include <array>
#include <functional>
#include <optional>

#include "blob/hash.h"
#include "daemon/wire.h"

namespace indra::cli {

class PackSeal {
 public:
  static constexpr std::size_t kHead = 64, kSize = 32;
  PackSeal();
  [[nodiscard]] ByteView head() const { return head_; }
  /// The seal that follows the next message, whose bytes these are.
  [[nodiscard]] ByteView next(ByteView message);

 private:
  std::array<std::byte, kHead> head_{};
  BlobHash seal_;
  Bytes joined_;
};

class PackWriter {
 public:
  using Write = std::function<Result<void>(ByteView)>;
  explicit PackWriter(Write write) : write_{std::move(write)} {}
  [[nodiscard]] Result<void> begin(Json about);
  [[nodiscard]] Result<void> add(const Message& item);
  [[nodiscard]] Result<void> end();

 private:
  Result<void> put(const Message&);
  Write write_;
  PackSeal seal_;
  std::uint64_t items_ = 0, bytes_ = 0;
};

class PackReader {
 public:
  /// Fills `out` as far as there are bytes; fewer only at the end.
  using Read = std::function<Result<std::size_t>(MutableBytes out)>;
  explicit PackReader(Read read) : read_{std::move(read)} {}
  /// What the pack says of itself.
  [[nodiscard]] Result<Json> begin();
  /// The next item; nothing when the pack ended as it was written.
  [[nodiscard]] Result<std::optional<Message>> next();

 private:
  Result<Message> get();
  Result<void> all(MutableBytes out);
  Read read_;
  PackSeal seal_;
  std::uint64_t items_ = 0, bytes_ = 0;
};

}  // namespace indra::cli
