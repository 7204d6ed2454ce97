// The directory that a backup lies in: its lock, its state, and its packs.
#pragma once
#include <memory>
#include <set>
#include <string>

#include "backup/internal/state.h"
#include "base/fault.h"
#include "base/fd.h"

namespace indra::backup {

/// Links are not followed.
[[nodiscard]] Result<Fd> open_to_read(const std::string& path);
/// A new file, for nobody else.
[[nodiscard]] Result<Fd> make_file(const std::string& path);
/// Fewer bytes only at the end of the file.
[[nodiscard]] Result<std::size_t> read_at(const Fd&, std::uint64_t at, MutableBytes out,
                                          const std::string& path);
[[nodiscard]] Result<void> write_at(const Fd&, std::uint64_t at, ByteView, const std::string& path);
[[nodiscard]] Result<void> sync_file(const Fd&, const std::string& path);
[[nodiscard]] Result<void> sync_dir(const std::string& path);
/// For nobody else; fine when it is there.
[[nodiscard]] Result<void> make_dir(const std::string& path);
[[nodiscard]] Result<std::vector<std::string>> names_in(const std::string& dir);

class Dest {
 public:
  /// For writing: makes the directory, locks it, reads its state (number 0: none), and removes what a backup
  /// that was cut off left.
  [[nodiscard]] static Result<Dest> open(const std::string& path);
  /// For reading, beside other readers; read-only media do.
  [[nodiscard]] static Result<Dest> open_reading(const std::string& path);

  [[nodiscard]] const State& state() const { return state_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Is the pack there, as long as the state says, and one of ours?
  [[nodiscard]] bool sound(std::uint32_t pack);
  /// Reads a block of the state and compares it. Errc::corrupt when it does not match, or is not there.
  [[nodiscard]] Result<void> read(const Record&, MutableBytes out);
  /// A number that no pack has, nor had in the state.
  [[nodiscard]] std::uint32_t next_pack() { return ++last_pack_; }
  [[nodiscard]] std::string pack_path(std::uint32_t pack) const;
  /// Takes over `next`, durably, with one rename. What only the old state needed goes.
  [[nodiscard]] Result<void> commit(State next, const FaultPoints&);

 private:
  Result<void> load();
  [[nodiscard]] std::string packs_path() const { return path_ + "/packs"; }
  Result<void> remove_other_packs();

  std::string path_;
  Fd lock_;
  State state_;
  std::uint32_t last_pack_ = 0;
  struct Open {
    bool sound = false;
    Fd fd;
  };
  std::map<std::uint32_t, Open> packs_;
};

/// Blocks on their way into new packs. What was written is removed again unless a state with it was
/// committed.
class PackWriter {
 public:
  PackWriter(Dest& dest, std::uint64_t pack_size, State& into) : dest_{dest}, size_{pack_size}, into_{into} {}
  ~PackWriter();
  PackWriter(const PackWriter&) = delete;
  PackWriter& operator=(const PackWriter&) = delete;
  /// Sets the record's pack and offset.
  [[nodiscard]] Result<void> append(Record&, ByteView);
  /// All of it is durable.
  [[nodiscard]] Result<void> finish();

 private:
  Result<void> begin();
  Result<void> flush();
  Result<void> end();

  Dest& dest_;
  const std::uint64_t size_;
  State& into_;
  Fd fd_;
  std::uint32_t pack_ = 0;
  std::uint64_t at_ = 0;  // of the buffer in the pack
  Bytes buffer_;
  std::vector<std::uint32_t> made_;
};

}  // namespace indra::backup
