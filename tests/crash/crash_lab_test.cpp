#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "lab/lab.h"

namespace indra::lab {
namespace {

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* s = std::getenv(name);
  return s != nullptr ? std::strtoull(s, nullptr, 10) : otherwise;
}

std::string report(std::uint64_t seed, const History& h, const Outcome& o) {
  std::string s = "seed " + std::to_string(seed) + ":\n";
  for (const std::string& v : o.violations) s += "  " + v + "\n";
  const History small = shrink(h, {}, 300);
  s += "shrunk:\n" + text_of(small);
  for (const std::string& v : run(small).violations) s += "  " + v + "\n";
  return s;
}

}  // namespace

// INDRA_LAB_SECONDS: how long (a soak). INDRA_LAB_SEED: the first seed. INDRA_LAB_FILE: this history alone.
TEST(CrashLab, NothingIsLostInRandomHistories) {
  if (const char* file = std::getenv("INDRA_LAB_FILE")) {
    std::ifstream in{file};
    std::stringstream s;
    s << in.rdbuf();
    const Outcome o = run(parse(s.str()));
    for (const std::string& v : o.violations) ADD_FAILURE() << v;
    return;
  }
  const std::uint64_t seconds = setting("INDRA_LAB_SECONDS", 20), first = setting("INDRA_LAB_SEED", 1),
                      most = setting("INDRA_LAB_HISTORIES", UINT64_MAX);
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t histories = 0, operations = 0, cuts = 0, steps = 0;
  int failures = 0;
  for (std::uint64_t seed = first; failures < 3 && histories < most; ++seed) {
    if (std::chrono::steady_clock::now() - start > std::chrono::seconds{seconds}) break;
    const History h = random_history(seed, 40);
    const Outcome o = run(h);
    ++histories;
    operations += o.operations;
    cuts += o.cuts;
    steps += o.steps;
    if (o.violations.empty()) continue;
    ++failures;
    ADD_FAILURE() << report(seed, h, o);
  }
  std::cout << histories << " histories, " << operations << " operations, " << cuts
            << " power cuts and kills, " << steps << " steps of the disk\n";
}

// Histories that once failed, as they were shrunk.
TEST(CrashLab, WhatWasFoundOnceStaysMended) {
  const char* const kFound[] = {
      // A fold was cut; the vault was then closed in order, and the half-folded chunk taken for damage (C23).
      R"(open h3 main:/f2
write h3 84224 4753 3
tick 5000 3
write h3 71800 4340 13
tick 1932 2
tick 5000 1
tick 1245 1
write h1 40960 126684 15 ! kill 7)",
      // What was persisted as empty came back when the vault was opened next, over what was written since.
      R"(open h3 main:/f0
punch h3 3993 8742
rest
extend h3 1)",
      // Holes punched before an orderly end were lost with the power, and looked for no more.
      R"(mkdir main:/d0
put main:/d0/f2 65536 14
sync
reopen ! power 29 333843)",
      // Persisted after four seconds, and durable after another four.
      R"(open h0 main:/f0
sync
write h0 0 100 1
tick 4500 1 ! power 0 2)",
      // Published by the clock while it was held open and written: likewise.
      R"(open h0 main:/f2
sync
write h0 147456 2129 1
tick 3700000 1 ! power 0 962393)",
      // Written, and closed 3.9 s later: durable only 4 s after the close.
      R"(open h0 main:/f0
sync
write h0 0 100 1
tick 3900 1
close h0
tick 200 1 ! power 0 2)",
  };
  for (const char* history : kFound)
    for (const std::string& v : run(parse(history)).violations) ADD_FAILURE() << v;
}

// The power goes in each step of making a vault.
TEST(CrashLab, AVaultThatWasCutInItsMakingCanBeMade) {
  for (std::uint64_t step = 1;; ++step) {
    std::uint64_t last = 0;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const Outcome o = run_making(step, seed);
      for (const std::string& v : o.violations) ADD_FAILURE() << v;
      last = o.steps;
    }
    if (last == 0 || HasFailure()) break;
  }
}

/// Content is freed and its space given back while little else happens, until the power goes.
History freeing_history(std::uint64_t seed) {
  std::string text = "vault no-pins\n";
  for (int i = 0; i < 4; ++i)
    text += "put main:/f" + std::to_string(i) + " " + std::to_string(100'000 + 1000 * seed) + " " +
            std::to_string(i + 1) + "\n";
  text += "settle\n";
  for (int i = 0; i < 3; ++i) text += "unlink main:/f" + std::to_string(i) + "\ntick 60 1\n";
  text += "tick " + std::to_string(100 * seed) + " 4 ! power 0 " + std::to_string(seed) + "\n";
  return parse(text);
}

// The proof of the proof: faults of programs and of disks, planted below the vault, are found.
class PlantedFault : public ::testing::TestWithParam<std::string> {};

TEST_P(PlantedFault, IsFound) {
  constexpr std::uint64_t kSeeds = 3000;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Fault fault = planted(GetParam());
    History h = fault.leaves_out.empty() ? random_history(seed, 40) : freeing_history(seed);
    // What the fault needs to show itself, every few operations.
    const auto extra = [&](std::size_t n) {
      const std::string file = "main:/f" + std::to_string(n % 4);
      if (fault.meddle) return parse("meddle");
      if (fault.holds_back) return parse("setxattr " + file + " user.x1 v" + std::to_string(n) + "\nsync");
      return History{};
    };
    for (std::size_t at = 4; at < h.size(); at += 5) {
      const History more = extra(at);
      h.insert(h.begin() + static_cast<std::ptrdiff_t>(at), more.begin(), more.end());
    }
    const Outcome o = run(h, fault);
    if (o.violations.empty()) continue;
    std::cout << "seed " << seed << ": " << o.violations.front() << "\n";
    for (const std::string& v : run(h).violations) ADD_FAILURE() << "without the fault: " << v;
    return;
  }
  ADD_FAILURE() << "not in " << kSeeds << " histories";
}

INSTANTIATE_TEST_SUITE_P(All, PlantedFault, ::testing::ValuesIn(planted_names()),
                         [](const auto& i) { return i.param; });

}  // namespace indra::lab
