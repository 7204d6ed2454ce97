// Where chunk bytes lie: in segments, or, in a vault of a single file, in rows of `chunks`.
//
// Shapes:   1..64 KiB at a `where`: segment << 32 | offset; segment 0xFFFFFFFF: row `offset` of chunks.
// Threads:  every member may be called from any thread, without a Tx. A Lane belongs to one caller at a time.
#pragma once
#include <memory>
#include <vector>

#include "blob/segments.h"
#include "db/writer.h"

namespace indra::blob {

inline constexpr std::uint32_t kInDatabase = 0xFFFFFFFF;

class ChunkBytes {
 public:
  /// A run of chunks that belong together.
  class Lane {
   public:
    virtual ~Lane() = default;
  };
  virtual ~ChunkBytes() = default;
  [[nodiscard]] virtual std::unique_ptr<Lane> lane() = 0;
  [[nodiscard]] virtual Result<std::uint64_t> append(Lane&, ByteView) = 0;
  [[nodiscard]] virtual Result<void> read(std::uint64_t where, MutableBytes out) = 0;
  /// The next read asks the device, where it can.
  virtual void uncache(std::uint64_t /*where*/, std::uint32_t /*length*/) {}
  [[nodiscard]] virtual Result<void> overwrite(std::uint64_t where, std::uint32_t length, std::uint32_t at,
                                               ByteView) = 0;
  /// Rows refer to it by now, or it was freed.
  virtual void settled(const Extent&) {}
  /// In rows the length counts rows. Returns the parts that wait for others of their block (Segments::punch).
  [[nodiscard]] virtual Result<std::vector<Extent>> free(const std::vector<Extent>&) = 0;
  /// What was freed before stays so after a power cut.
  [[nodiscard]] virtual Result<void> sync_freed() = 0;
  [[nodiscard]] virtual Result<void> sync() = 0;
  [[nodiscard]] virtual bool dirty() const = 0;
  [[nodiscard]] virtual Result<std::uint64_t> allocated() = 0;
};

[[nodiscard]] std::unique_ptr<ChunkBytes> bytes_in(Segments&);
[[nodiscard]] Result<std::unique_ptr<ChunkBytes>> bytes_in(Writer&);

}  // namespace indra::blob
