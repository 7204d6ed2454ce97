// A vault that bits of are flipped in, and what it must read as.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "fsck/internal/test_vault.h"

namespace indra {

inline int flips() {
  const char* n = std::getenv("INDRA_FLIPS");
  return n != nullptr ? std::atoi(n) : 150;
}
inline unsigned seed() {
  const char* n = std::getenv("INDRA_FLIPS_SEED");
  return n != nullptr ? static_cast<unsigned>(std::atoi(n)) : 1;
}

inline void flip(const std::string& path, std::uint64_t at, unsigned bit) {
  std::fstream f{path, std::ios::in | std::ios::out | std::ios::binary};
  f.seekg(static_cast<std::streamoff>(at));
  const int c = f.get();
  f.seekp(static_cast<std::streamoff>(at));
  f.put(static_cast<char>(c ^ (1 << bit)));
}
inline std::string slurp(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Files of every kind of content, a snapshot that holds other versions, a branch.
class Flipped {
 public:
  Flipped() {
    v.clock.pass(kSecond);
    v.open(true);
    want["/inline"] = "a few bytes in a row";
    want["/packed"] = TestVault::bytes(3000, 1);
    want["/packed-too"] = TestVault::bytes(1500, 2);
    want["/block"] = TestVault::bytes(20'000, 3);
    want["/chunks"] = TestVault::bytes(200'000, 4);
    for (const auto& [path, content] : want) v.put(path, content);
    must(v.view->mkdir(v.me, v.view->root(), "d", 0755));
    v.put("/d/old", TestVault::bytes(70'000, 5));
    (void)must(v.fs->create_snapshot({}, "main", "main", "first", ""));
    old = want;
    old["/d/old"] = TestVault::bytes(70'000, 5);
    want["/d/old"] = TestVault::bytes(9'000, 6);
    must(v.view->unlink(v.me, v.at("/d"), "old"));
    v.put("/d/old", want["/d/old"]);
    must(v.fs->sync(true));
    while (must(v.fs->tick())) v.clock.pass(kSecond);
    must(v.fs->settle());
  }

  /// Every file of main and of the snapshot: right, or an error (its path is then among `bad`).
  void look(std::set<std::string>& bad) {
    for (const bool snapshot : {false, true}) {
      ViewSpec spec;
      if (snapshot) spec.snapshot = "first";
      const std::string prefix = snapshot ? "snapshot first " : "branch main ";
      const auto view = v.fs->open_view(spec, nullptr);
      for (const auto& [path, content] : snapshot ? old : want) {
        if (!view) {
          bad.insert(prefix + path);
          continue;
        }
        const auto node = resolve_path(**view, path);
        if (!node) {
          EXPECT_NE(node.error().code, std::errc::no_such_file_or_directory)
              << prefix << path << " is lost in silence";
          bad.insert(prefix + path);
          continue;
        }
        const auto got = v.get(**view, node->node);
        if (got)
          EXPECT_TRUE(*got == content) << prefix << path << " reads as wrong bytes";
        else
          bad.insert(prefix + path);
      }
    }
  }

  /// Where each piece of the files' contents lies that is in a segment, the vault being closed.
  struct Piece {
    std::string path;  ///< the segment's
    std::uint64_t at, length;
    std::string content;   ///< of a file
    std::uint64_t offset;  ///< in that
  };
  std::vector<Piece> pieces() const {
    std::vector<Piece> out;
    std::uint64_t total = 0, bytes = 0;
    std::map<std::string, std::string> segments;
    for (const auto& e : std::filesystem::directory_iterator{v.path() + "/segments"})
      segments[e.path()] = slurp(e.path());
    std::set<std::string> contents;
    for (const auto* files : {&want, &old})
      for (const auto& [path, content] : *files)
        if (content.size() > 1024) contents.insert(content);
    for (const std::string& content : contents) {
      total += content.size();
      for (std::size_t i = 0; i < content.size(); i += 65536) {
        const std::string piece = content.substr(i, 65536);
        for (const auto& [path, all] : segments)
          if (const auto at = all.find(piece); at != std::string::npos) {
            out.push_back({path, at, piece.size(), content, i});
            bytes += piece.size();
          }
      }
    }
    EXPECT_EQ(bytes, total);
    return out;
  }

  TestVault v;
  std::map<std::string, std::string> want, old;
};

}  // namespace indra
