// Segments: append-mostly files of about 1 GiB that hold chunk bytes.
//
// Shapes:   an extent lies in one segment. Extents of 4 KiB and more start on a 4 KiB boundary, so that
// punching
//           a dead one frees all its blocks, the last one too; smaller ones are packed, in other segments.
// Threads:  every member may be called from any thread. Streams belong to one caller each.
// Durable:  after sync(). Before it, a crash may lose any of the bytes; nothing may refer to them yet (D3).
// Errors:   the errno of the write or sync that failed; after a failed sync every later sync fails too.
// Source:   docs/formats/segments-v1.md.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/fault.h"
#include "base/sync.h"

namespace indra {

struct Extent {
  std::uint32_t segment = 0;  ///< 1.. ; 0 = none
  std::uint32_t offset = 0;   ///< bytes
  std::uint32_t length =
      0;  ///< bytes, at most 64 KiB as the store writes them; longer ones may be freed at once
  friend bool operator==(const Extent&, const Extent&) = default;
};

/// Whether these are the 4096 bytes at the beginning of a segment, by their own hash.
[[nodiscard]] bool segment_header_is_sound(ByteView header);

class Segments {
 public:
  struct Options {
    std::uint64_t segment_size = 1ull << 30;
    std::size_t buffer = 1 << 20;  ///< bytes gathered before one pwrite
    std::size_t reservation =
        4 << 20;         ///< run that a stream reserves for itself, so that a file lies together
    FaultPoints faults;  ///< "segment.write", "segment.sync", "segment.punch", "segment.create"
  };
  /// `ends`: what the database says each known segment ends at. Bytes beyond are leftovers of a crash: cut
  /// off. A known segment that is missing, shorter, or another one by its header is damage() and told in the
  /// log: what was in it is Errc::corrupt to read, it is never written to, and its number not given again.
  [[nodiscard]] static Result<std::unique_ptr<Segments>> open(Disk&, std::string dir,
                                                              std::map<std::uint32_t, std::uint64_t> ends,
                                                              Options);
  ~Segments();

  /// A run of extents that belong together: one file written in one go, or the shared stream of small ones.
  class Stream;
  struct StreamEnd {
    Segments* segments;
    void operator()(Stream* s) const { segments->close(s); }
  };
  using StreamPtr = std::unique_ptr<Stream, StreamEnd>;
  [[nodiscard]] StreamPtr stream();  ///< must go before the Segments

  /// Appends one extent (1..64 KiB). Buffered: readable at once, on the device after sync(). Extents below 4
  /// KiB go to segments of their own, whatever the stream. After an error (a full disk) nothing is lost: what
  /// was appended before stays readable and is written by the next append() or sync() that can.
  [[nodiscard]] Result<Extent> append(Stream&, ByteView bytes);
  /// Reads out.size() bytes at extent.offset + at; the buffer is looked into.
  [[nodiscard]] Result<void> read(const Extent&, std::uint32_t at, MutableBytes out) const;
  /// The next read of the extent asks the device, where it can.
  void uncache(const Extent&) const;
  /// Writes over part of an extent that nobody else refers to (folding in place).
  [[nodiscard]] Result<void> overwrite(const Extent&, std::uint32_t at, ByteView bytes);
  /// Everything appended or overwritten before the call survives a power cut, and the directory entries too.
  /// Calls at the same time share the work. A failed write (a full disk) may be tried again, a failed
  /// fdatasync not: it is never ENOSPC or EDQUOT.
  [[nodiscard]] Result<void> sync();
  /// False only when all that was appended or overwritten is durable: not while a sync is still at work.
  [[nodiscard]] bool dirty() const noexcept;
  /// Somebody refers to the extent by now, or it was given back: until then its segment stays.
  void settled(const Extent&);
  /// Gives the blocks back. Only for extents that no durable row refers to and nobody reads. Extents may be
  /// cut and joined at will. What is returned are the dead parts of blocks that small extents share, none
  /// over a block's edge: given again together with what dies later they make up whole blocks, which go.
  [[nodiscard]] Result<std::vector<Extent>> punch(std::vector<Extent> dead);
  /// Small extents lie in it, one behind the other.
  [[nodiscard]] bool is_packed(std::uint32_t segment) const;
  /// What was punched before the call stays so after a power cut. Nothing else waits for it: what a crash
  /// brings back is found at the next start.
  [[nodiscard]] Result<void> sync_holes();
  /// Where each segment ends now (bytes), what is not durable yet included. The table `segments` must hold
  /// the end of what rows refer to, not this: after a crash the file may be shorter.
  [[nodiscard]] std::uint64_t end_of(std::uint32_t segment) const;
  /// Nothing more is appended to this segment, nor awaits being settled. False: it is still in use.
  [[nodiscard]] Result<bool> retire(std::uint32_t segment);
  /// Removes the file of a segment in which nothing lives any more. EBUSY where retire() says no.
  [[nodiscard]] Result<void> remove(std::uint32_t segment);
  /// Bytes on the device.
  [[nodiscard]] Result<std::uint64_t> allocated() const;
  [[nodiscard]] Result<std::uint64_t> allocated(std::uint32_t segment) const;
  /// What open() found wrong, for people.
  [[nodiscard]] std::vector<std::string> damage() const;
  [[nodiscard]] static std::string path_of(const std::string& dir, std::uint32_t segment);

 private:
  void close(Stream*);
  struct Impl;
  explicit Segments(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace indra
