// The crash laboratory: histories of operations on a vault that lies on a simulated disk, the power going at
// any step, recovery by opening the vault, and a model that says what may be found (docs/durability.md).
//
// A history is text, one operation a line, so that what failed can be kept, read, shrunk and run again:
//
//   vault single-file no-pins   as the first line: content lies in vault.db; nothing is kept by automatic
//   pins open h0 main:/d0/f1         makes the file if need be; handles are h0 .. h3 write h0 4096 5000 17
//   offset, bytes, and the seed they come from fsync h0 ! power 12 99      in the 12th step of the disk the
//   power goes; 99 decides what is lost
//
// After each power cut or kill the vault is opened again and checked; then the history goes on. An operation
// that makes no sense where it stands (a handle that is not open, a name that is not there) is left out.
// `! power STEP SEED AGAIN`: recovery itself is cut at its step AGAIN, too. `! kill STEP`: only the process
// dies.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "testkit/mem_disk.h"

namespace indra::lab {

struct Cut {
  bool kill = false;
  std::uint64_t step = 0;  ///< 0: after the operation
  std::uint64_t seed = 0;
  std::uint64_t again = 0;  ///< 0: recovery is left alone
};

struct Op {
  std::vector<std::string> words;
  std::optional<Cut> cut;
  [[nodiscard]] std::string text() const;
};

using History = std::vector<Op>;

[[nodiscard]] std::string text_of(const History&);
[[nodiscard]] History parse(std::string_view text);
/// `ops` operations, of which the last and perhaps others are cut. The same seed, the same history.
[[nodiscard]] History random_history(std::uint64_t seed, int ops);

/// A fault that is planted below or beside the vault, or a step of the program that is left out: the
/// laboratory must find it.
struct Fault {
  std::string name;
  MemDisk::Fault disk;                                  ///< asked at each call of the disk
  std::function<void(const std::string& verb)> before;  ///< told of each operation, and of each "recover"
  /// After a cut, before the vault is opened again; and at each `meddle`. With SQLite's name for the disk.
  std::function<void(MemDisk&, const char*vfs, const std::string&dir)> at_recovery, meddle;
  std::string leaves_out;   ///< this fault point's step (FaultPoints::leaves_out)
  bool holds_back = false;  ///< attributes are set some operations too late
};

struct Outcome {
  std::vector<std::string> violations;
  std::uint64_t operations = 0, cuts = 0, steps = 0;
};

/// Runs a history on a new vault. Stops at the first violation.
[[nodiscard]] Outcome run(const History&, const Fault& = {});
/// The shortest history found that still fails, by leaving out operations, in at most `tries` runs.
[[nodiscard]] History shrink(History, const Fault&, int tries);

/// A vault is made, and in the step `step` of that the power goes: it must be possible to make it then.
[[nodiscard]] Outcome run_making(std::uint64_t step, std::uint64_t seed);

/// Faults that must be found, by name.
[[nodiscard]] Fault planted(const std::string& name);
[[nodiscard]] std::vector<std::string> planted_names();

/// The blocks of a segment that something refers to, by its path.
[[nodiscard]] std::map<std::string, std::set<std::uint64_t>> living_blocks(MemDisk&, const char* vfs,
                                                                           const std::string& dir);
/// Invariants of a vault at rest, read beside it: references, manifests, chunks, space. What is wrong, in
/// words.
[[nodiscard]] std::vector<std::string> inspect_at_rest(MemDisk&, const char* vfs, const std::string& dir);

}  // namespace indra::lab
