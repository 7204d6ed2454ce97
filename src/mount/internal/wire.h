// What <linux/fuse.h> of an older machine lacks, under names of our own, so that a newer one does not clash.
// Source: the kernel's include/uapi/linux/fuse.h, ABI 7.39 to 7.45.
#pragma once
#include <linux/fuse.h>

#include <cstdint>

namespace indra::wire {

inline constexpr std::uint32_t kOpStatx = 52;
inline constexpr std::uint32_t kOpCopyFileRange64 = 53;
inline constexpr std::uint32_t kOpCount = 64;  // all below; counters are kept for each

// Bits 32.. of the INIT flags.
inline constexpr std::uint64_t kHasExpireOnly = 1ull << 35;
inline constexpr std::uint64_t kDirectIoAllowMmap = 1ull << 36;

// Lookup entries older than the connection's epoch are asked for again (kernel 6.16).
inline constexpr int kNotifyIncEpoch = 8;
inline constexpr std::uint32_t kMinorWithEpoch = 44;
inline constexpr std::uint32_t kExpireOnly = 1u << 0;

struct SxTime {
  std::int64_t sec;
  std::uint32_t nsec;
  std::int32_t reserved;
};
struct Statx {
  std::uint32_t mask, blksize;
  std::uint64_t attributes;
  std::uint32_t nlink, uid, gid;
  std::uint16_t mode, spare0[1];
  std::uint64_t ino, size, blocks, attributes_mask;
  SxTime atime, btime, ctime, mtime;
  std::uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  std::uint64_t spare2[14];
};
struct StatxIn {
  std::uint32_t getattr_flags, reserved;
  std::uint64_t fh;
  std::uint32_t sx_flags, sx_mask;
};
struct StatxOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec, flags;
  std::uint64_t spare[2];
  Statx stat;
};
static_assert(sizeof(Statx) == 256 && sizeof(StatxIn) == 24 && sizeof(StatxOut) == 288);

struct CopyFileRangeOut {
  std::uint64_t bytes_copied;
};

}  // namespace indra::wire
