// Histories as text, and at random.
#include <array>
#include <random>
#include <sstream>

#include "lab/lab.h"

namespace indra::lab {

std::string Op::text() const {
  std::string s;
  for (const std::string& w : words) s += (s.empty() ? "" : " ") + w;
  if (!cut) return s;
  s += cut->kill ? " ! kill " : " ! power ";
  s += std::to_string(cut->step);
  if (!cut->kill) s += " " + std::to_string(cut->seed);
  if (!cut->kill && cut->again != 0) s += " " + std::to_string(cut->again);
  return s;
}

std::string text_of(const History& h) {
  std::string s;
  for (const Op& op : h) s += op.text() + "\n";
  return s;
}

History parse(std::string_view text) {
  History out;
  std::istringstream lines{std::string{text}};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in{line};
    Op op;
    for (std::string w; in >> w;) {
      if (w[0] == '#') break;
      if (w != "!") {
        op.words.push_back(w);
        continue;
      }
      Cut c;
      in >> w >> c.step >> c.seed >> c.again;
      c.kill = w == "kill";
      op.cut = c;
      break;
    }
    if (!op.words.empty()) out.push_back(std::move(op));
  }
  return out;
}

namespace {

class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_{seed * 0x9E3779B97F4A7C15ull + 1} {}

  Op next() {
    // What a history is mostly about differs from one to the next.
    static const std::array<std::vector<const char*>, 4> kMoods{{
        {"write", "write", "write", "open", "fsync", "close", "tick", "truncate", "punch", "copy"},
        {"open", "close", "rename", "link", "unlink", "mkdir", "rmdir", "exchange", "symlink", "put", "sync"},
        {"snapshot", "fork", "unsnapshot", "unfork", "write", "close", "put", "tick", "settle"},
        {"write", "fsync", "fsync", "edit", "edit", "tick", "rest"},
    }};
    static const std::vector<const char*> kAll{
        "open",     "open",     "open",       "write",    "write",  "write",  "edit",   "close",
        "close",    "fsync",    "fdatasync",  "truncate", "punch",  "zero",   "extend", "copy",
        "rename",   "rename",   "exchange",   "link",     "unlink", "unlink", "mkdir",  "rmdir",
        "symlink",  "chmod",    "setxattr",   "rmxattr",  "put",    "put",    "sync",   "syncall",
        "syncrows", "snapshot", "unsnapshot", "fork",     "unfork", "read",   "read",   "tick",
        "tick",     "rest",     "settle",     "reopen",   "safe"};
    if (left_ == 0) {
      left_ = 3 + static_cast<int>(n(10));
      mood_ = n(kMoods.size() + 2);
    }
    --left_;
    return make(mood_ < kMoods.size() ? kMoods[mood_][n(kMoods[mood_].size())] : kAll[n(kAll.size())]);
  }
  std::uint64_t n(std::uint64_t below) { return random_() % below; }
  Cut cut() {
    Cut c;
    c.kill = n(6) == 0;
    c.step = n(4) == 0 ? n(60) : n(8);
    c.seed = n(1'000'000);
    if (!c.kill && n(5) == 0) c.again = 1 + n(40);
    return c;
  }

 private:
  std::string handle() { return "h" + std::to_string(n(4)); }
  std::string branch() { return n(4) != 0 ? "main" : "b" + std::to_string(n(2)); }
  std::string dir() { return n(3) == 0 ? "" : "/d" + std::to_string(n(2)); }
  std::string file() { return "/f" + std::to_string(n(4)); }
  std::string path() { return n(8) == 0 ? "/d" + std::to_string(n(2)) + "/d2" + file() : dir() + file(); }
  std::string some_dir() {
    return n(3) == 0 ? "/d" + std::to_string(n(2)) + "/d2" : "/d" + std::to_string(n(2));
  }
  std::string number(std::uint64_t v) { return std::to_string(v); }
  std::uint64_t size() {
    switch (n(8)) {
      case 0:
        return 1 + n(1000);
      case 1:
      case 2:
        return 1000 + n(8000);
      case 3:
        return 4096 * (1 + n(8));
      case 4:
        return 65536 * (1 + n(3));
      case 5:
        return 65536 + n(200'000);
      default:
        return 1 + n(70'000);
    }
  }
  std::uint64_t offset() {
    switch (n(8)) {
      case 0:
        return n(3) == 0 ? (4u << 20) - 65536 + n(200'000) : n(300'000);
      case 1:
        return 65536 * n(4);
      case 2:
      case 3:
        return 4096 * n(40);
      default:
        return n(2) == 0 ? 0 : n(70'000);
    }
  }

  Op make(const std::string& verb) {
    const auto op = [](std::vector<std::string> w) { return Op{std::move(w), {}}; };
    const std::string b = branch();
    if (verb == "open") return op({n(8) == 0 ? "opentrunc" : "open", handle(), b + ":" + path()});
    if (verb == "write") return op({verb, handle(), number(offset()), number(size()), number(++serial_)});
    if (verb == "edit")  // small, in the middle: patches
      return op({"write", handle(), number(n(100'000)), number(1 + n(5000)), number(++serial_)});
    if (verb == "punch" || verb == "zero") return op({verb, handle(), number(offset()), number(size())});
    if (verb == "extend") return op({verb, handle(), number(offset() + 1)});
    if (verb == "copy") {
      const bool aligned = n(2) == 0;
      return op({verb, handle(), number(aligned ? 65536 * n(3) : offset()), handle(),
                 number(aligned ? 65536 * n(3) : offset()), number(aligned ? 65536 * (1 + n(3)) : size())});
    }
    if (verb == "close" || verb == "read" || verb == "fsync" || verb == "fdatasync")
      return op({verb, handle()});
    if (verb == "truncate")
      return op({verb, b + ":" + path(), number(n(3) == 0 ? 0 : n(2) == 0 ? offset() : size())});
    if (verb == "mkdir" || verb == "rmdir") return op({verb, b + ":" + some_dir()});
    if (verb == "unlink") return op({verb, b + ":" + path()});
    if (verb == "rename" || verb == "exchange") {
      if (n(5) == 0) return op({verb, b + ":" + some_dir(), b + ":" + some_dir()});
      return op({verb, b + ":" + path(), b + ":" + path()});
    }
    if (verb == "link") return op({verb, b + ":" + path(), b + ":" + path()});
    if (verb == "symlink") return op({verb, "to" + number(n(100)), b + ":" + path()});
    if (verb == "chmod")
      return op({verb, b + ":" + (n(4) == 0 ? some_dir() : path()), n(2) == 0 ? "0600" : "0755"});
    if (verb == "setxattr")
      return op({verb, b + ":" + path(), "user.x" + number(n(2)), "v" + number(n(1000))});
    if (verb == "rmxattr") return op({verb, b + ":" + path(), "user.x" + number(n(2))});
    if (verb == "put") return op({verb, b + ":" + path(), number(size()), number(++serial_)});
    if (verb == "snapshot") return op({verb, b, "s" + number(n(3))});
    if (verb == "unsnapshot") return op({verb, "s" + number(n(3))});
    if (verb == "fork") return op({verb, "b" + number(n(2)), branch()});
    if (verb == "unfork") return op({verb, "b" + number(n(2))});
    if (verb == "tick") return op({verb, number(n(3) == 0 ? 5000 : n(2000)), number(1 + n(4))});
    return op({verb});
  }

  std::mt19937_64 random_;
  std::uint64_t serial_ = 0, mood_ = 0;
  int left_ = 0;
};

/// "safe" is what careful programs do: written beside, fsynced, renamed over, the directory fsynced.
void add(History& h, Op op, Generator& g) {
  if (op.words[0] != "safe") {
    h.push_back(std::move(op));
    return;
  }
  const std::string serial = std::to_string(1'000'000 + g.n(1'000'000)),
                    to = "main:/f" + std::to_string(g.n(4));
  for (const std::string& line :
       {std::string{"close h3"}, std::string{"opentrunc h3 main:/new"},
        "write h3 0 " + std::to_string(1 + g.n(150'000)) + " " + serial, std::string{"fsync h3"},
        std::string{"close h3"}, "rename main:/new " + to, std::string{"sync"}})
    h.push_back(parse(line).front());
}

}  // namespace

History random_history(std::uint64_t seed, int ops) {
  Generator g{seed};
  History h;
  const std::string kind = std::string{g.n(5) == 0 ? " single-file" : ""} + (g.n(2) == 0 ? " no-pins" : "");
  if (!kind.empty()) h = parse("vault" + kind);
  const std::uint64_t cuts = 1 + g.n(3);
  for (std::uint64_t c = 0; c < cuts; ++c) {
    const std::size_t until =
        h.size() + static_cast<std::size_t>(ops) / cuts / 2 + g.n(static_cast<std::uint64_t>(ops) / cuts) + 1;
    while (h.size() < until) add(h, g.next(), g);
    h.back().cut = g.cut();
  }
  return h;
}

History shrink(History h, const Fault& fault, int tries) {
  const auto fails = [&](const History& candidate) {
    --tries;
    return !run(candidate, fault).violations.empty();
  };
  for (std::size_t part = h.size() / 2; part > 0 && tries > 0;) {
    bool smaller = false;
    for (std::size_t at = 0; at < h.size() && tries > 0;) {
      History without = h;
      const auto from = without.begin() + static_cast<std::ptrdiff_t>(at);
      without.erase(from, from + static_cast<std::ptrdiff_t>(std::min(part, h.size() - at)));
      if (!without.empty() && fails(without)) {
        h = std::move(without);
        smaller = true;
      } else {
        at += part;
      }
    }
    if (!smaller || part > 1) part = part > 1 ? part / 2 : smaller ? 1 : 0;
  }
  return h;
}

}  // namespace indra::lab
