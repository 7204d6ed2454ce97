// A history of file operations by one process, and the proof that what is found after a crash is a prefix of
// it.
//
//   history run DIR SEED LOG     works in DIR (made by it) until the filesystem dies under it; writes to LOG
//   how far it came history check DIR SEED LOG   0: DIR is what it was after one of the steps that rules D1,
//   D2 and D4 allow
//
// Steps follow from SEED alone, so LOG holds numbers only: steps done, steps that an fsync answered for (or
// that are older than five seconds), and the same for the writes to the file `held`, which stays open: of it
// the writes, of all else the steps must be a prefix. Knows nothing of IndraFS, only POSIX.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Random {
  std::uint64_t state;
  std::uint64_t operator()() {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return (*this)() % n; }
};

std::string bytes(std::uint64_t seed, std::size_t size) {
  Random r{seed};
  std::string s(size + 8, '\0');
  for (std::size_t i = 0; i < size; i += 8) {
    const std::uint64_t v = r() | 0x0101010101010101;  // no zeros: a hole is seen
    std::memcpy(s.data() + i, &v, 8);
  }
  s.resize(size);
  return s;
}

std::uint64_t digest(const std::string& s) {
  std::uint64_t h = s.size() * 0x9e3779b97f4a7c15;
  for (std::size_t i = 0; i < s.size(); i += 8) {
    std::uint64_t v = 0;
    std::memcpy(&v, s.data() + i, std::min<std::size_t>(8, s.size() - i));
    h = (h ^ v) * 0x100000001b3;
    h ^= h >> 29;
  }
  return h;
}

struct Node {
  char type = 'f';  // f, d, l
  unsigned mode = 0;
  int links = 1;
  std::string content;  // of a link: the target
  std::uint64_t hash = digest({});
  std::string attribute;
  void set(std::string c) { content = std::move(c), hash = digest(content); }
};
using Entries = std::map<std::string, std::shared_ptr<Node>>;

bool same(const Node& a, const Node& b) {
  return a.type == b.type && a.mode == b.mode && (a.type != 'f' || a.links == b.links) &&
         a.content.size() == b.content.size() && a.hash == b.hash && a.attribute == b.attribute;
}
bool same(const Entries& a, const Entries& b) {
  if (a.size() != b.size()) return false;
  auto x = a.begin();
  for (const auto& [name, node] : b) {
    if (x->first != name || !same(*x->second, *node)) return false;
    ++x;
  }
  return true;
}

enum class Kind {
  create,
  fill,
  overwrite,
  append,
  truncate,
  rename,
  link,
  unlink,
  mkdir,
  rmdir,
  symlink,
  chmod,
  attribute,
  sync_file,
  sync_dir,
  hold
};
struct Step {
  Kind kind;
  std::string a, b;
  std::uint64_t seed = 0;
  std::size_t at = 0, size = 0;
};

class History {
 public:
  explicit History(std::uint64_t seed) : random_{seed} {}
  Entries entries;
  std::string held;  // content of the file that stays open

  Step next() {
    if (!filling_.empty()) {
      const Step s{Kind::fill, std::exchange(filling_, {}), {}, random_(), 0, some_size()};
      return s;
    }
    const std::string file = pick('f'), dir = pick('d');
    for (;;) switch (random_.below(16)) {
        case 0:
        case 1:
        case 2:
          if (entries.size() < 60) return {Kind::create, fresh(), {}};
          break;
        case 3:
          if (!file.empty()) return {Kind::create, file, {}};  // again, with O_TRUNC
          break;
        case 4:
          if (!file.empty())
            return {Kind::overwrite, file, {}, random_(), some_at(file), 1 + random_.below(9000)};
          break;
        case 5:
          if (!file.empty()) return {Kind::append, file, {}, random_(), 0, 1 + random_.below(9000)};
          break;
        case 6:
          if (!file.empty()) return {Kind::truncate, file, {}, 0, 0, some_at(file)};
          break;
        case 7:
          if (!file.empty()) {
            const std::string to = random_.below(2) == 0 ? pick('f') : fresh();
            if (entries.count(to) == 0 || entries[to] != entries[file]) return {Kind::rename, file, to};
          }
          break;
        case 8:
          if (!dir.empty()) {
            const std::string to = fresh();
            if (to.compare(0, dir.size() + 1, dir + "/") != 0) return {Kind::rename, dir, to};
          }
          break;
        case 9:
          if (!file.empty() && entries.size() < 60) return {Kind::link, file, fresh()};
          break;
        case 10: {
          const std::string victim = random_.below(4) == 0 ? pick('l') : file;
          if (!victim.empty()) return {Kind::unlink, victim, {}};
          break;
        }
        case 11:
          if (dir.empty() || random_.below(3) != 0) {
            if (entries.size() < 60) return {Kind::mkdir, fresh(), {}};
          } else if (const auto after = entries.lower_bound(dir + "/");
                     after == entries.end() || after->first.compare(0, dir.size() + 1, dir + "/") != 0) {
            return {Kind::rmdir, dir, {}};
          }
          break;
        case 12:
          if (entries.size() < 60)
            return {Kind::symlink, fresh(), "to" + std::to_string(random_.below(1000))};
          break;
        case 13:
          if (!file.empty())
            return {random_.below(2) == 0 ? Kind::chmod : Kind::attribute, file, {}, random_.below(1000)};
          break;
        case 14:
          return {Kind::hold, {}, {}, random_(), random_.below(400'000), 1 + random_.below(20'000)};
        default:
          if (random_.below(6) != 0) break;  // rare: the rest must live without
          if (!file.empty() && random_.below(2) == 0) return {Kind::sync_file, file, {}};
          return {Kind::sync_dir, {}, {}};
      }
  }

  void apply(const Step& s) {
    const auto node = [&]() -> Node& { return *entries.at(s.a); };
    switch (s.kind) {
      case Kind::create:
        filling_ = s.a;
        if (auto& n = entries[s.a]; n) {
          n->set({});
        } else {
          n = std::make_shared<Node>();
          n->mode = 0644;
        }
        break;
      case Kind::fill:
        node().set(bytes(s.seed, s.size));
        break;
      case Kind::append:
        node().set(node().content + bytes(s.seed, s.size));
        break;
      case Kind::overwrite:
        node().set(put(node().content, s));
        break;
      case Kind::hold:
        held = put(held, s);
        break;
      case Kind::truncate: {
        std::string c = node().content;
        c.resize(s.size);
        node().set(std::move(c));
        break;
      }
      case Kind::rename: {
        if (const auto old = entries.find(s.b); old != entries.end()) {
          --old->second->links;
          entries.erase(old);
        }
        Entries moved;
        for (auto i = entries.lower_bound(s.a);
             i != entries.end() && i->first.compare(0, s.a.size(), s.a) == 0;)
          if (i->first.size() == s.a.size() || i->first[s.a.size()] == '/') {
            moved[s.b + i->first.substr(s.a.size())] = i->second;
            i = entries.erase(i);
          } else {
            ++i;
          }
        entries.merge(moved);
        break;
      }
      case Kind::link:
        ++node().links;
        entries[s.b] = entries.at(s.a);
        break;
      case Kind::unlink:
      case Kind::rmdir:
        --node().links;
        entries.erase(s.a);
        break;
      case Kind::mkdir:
      case Kind::symlink: {
        auto n = std::make_shared<Node>();
        n->type = s.kind == Kind::mkdir ? 'd' : 'l';
        n->mode = s.kind == Kind::mkdir ? 0755 : 0777;
        n->set(s.b);
        entries[s.a] = n;
        break;
      }
      case Kind::chmod:
        node().mode = 0600 + static_cast<unsigned>(s.seed % 64);
        break;
      case Kind::attribute:
        node().attribute = std::to_string(s.seed);
        break;
      case Kind::sync_file:
      case Kind::sync_dir:
        break;
    }
  }

 private:
  static std::string put(std::string c, const Step& s) {
    if (c.size() < s.at + s.size) c.resize(s.at + s.size);
    c.replace(s.at, s.size, bytes(s.seed, s.size));
    return c;
  }
  std::string pick(char type) {
    std::vector<const std::string*> found;
    for (const auto& [name, node] : entries)
      if (node->type == type) found.push_back(&name);
    return found.empty() ? std::string{} : *found[random_.below(found.size())];
  }
  std::string fresh() {
    const std::string dir = random_.below(3) == 0 ? std::string{} : pick('d');
    return (dir.empty() || dir.size() > 200 ? "" : dir + "/") + "n" + std::to_string(++names_);
  }
  std::size_t some_size() {
    static constexpr std::size_t bounds[] = {1, 300, 1100, 5000, 66'000, 400'000};
    const std::size_t which = random_.below(40);
    return random_.below(bounds[which < 35 ? which % 4 : which < 39 ? 4 : 5]);
  }
  std::size_t some_at(const std::string& file) {
    return random_.below(entries.at(file)->content.size() + 2000);
  }

  Random random_;
  std::string filling_;
  std::uint64_t names_ = 0;
};

// Doing it
// ---------------------------------------------------------------------------------------------------------

bool died(int e) { return e == ENOTCONN || e == ECONNABORTED || e == ENODEV || e == EIO; }

class Doer {
 public:
  explicit Doer(std::string dir) : dir_{std::move(dir)} {}
  bool begin() {
    if (::mkdir(dir_.c_str(), 0755) != 0) return false;
    held_ = ::open((dir_ + "/held").c_str(), O_CREAT | O_RDWR, 0644);
    return held_ >= 0 && ::fsync(held_) == 0;
  }
  bool sync_held() { return ::fsync(held_) == 0; }
  bool run(const Step& s) {  // false: errno
    const std::string a = dir_ + "/" + s.a, b = dir_ + "/" + s.b;
    switch (s.kind) {
      case Kind::create:
        return (open_ = ::open(a.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644)) >= 0;
      case Kind::fill:
        return write_close(open_, bytes(s.seed, s.size), -1);
      case Kind::append:
        return write_close(::open(a.c_str(), O_WRONLY | O_APPEND), bytes(s.seed, s.size), -1);
      case Kind::overwrite:
        return write_close(::open(a.c_str(), O_WRONLY), bytes(s.seed, s.size), static_cast<off_t>(s.at));
      case Kind::hold: {
        const std::string data = bytes(s.seed, s.size);
        const ssize_t n = ::pwrite(held_, data.data(), data.size(), static_cast<off_t>(s.at));
        if (n >= 0 && n < static_cast<ssize_t>(data.size())) errno = EIO;
        return n == static_cast<ssize_t>(data.size());
      }
      case Kind::truncate:
        return ::truncate(a.c_str(), static_cast<off_t>(s.size)) == 0;
      case Kind::rename:
        return ::rename(a.c_str(), b.c_str()) == 0;
      case Kind::link:
        return ::link(a.c_str(), b.c_str()) == 0;
      case Kind::unlink:
        return ::unlink(a.c_str()) == 0;
      case Kind::mkdir:
        return ::mkdir(a.c_str(), 0755) == 0;
      case Kind::rmdir:
        return ::rmdir(a.c_str()) == 0;
      case Kind::symlink:
        return ::symlink(s.b.c_str(), a.c_str()) == 0;
      case Kind::chmod:
        return ::chmod(a.c_str(), static_cast<mode_t>(0600 + s.seed % 64)) == 0;
      case Kind::attribute: {
        const std::string v = std::to_string(s.seed);
        return ::setxattr(a.c_str(), "user.step", v.data(), v.size(), 0) == 0;
      }
      case Kind::sync_file:
        return sync(::open(a.c_str(), O_RDONLY));
      case Kind::sync_dir:
        return sync(::open(dir_.c_str(), O_RDONLY | O_DIRECTORY));
    }
    return false;
  }

 private:
  static bool closed(int fd, bool ok) {
    const int before =
        errno == 0 ? EIO : errno;  // a write that ends short tells no error: it was split, and died between
    const bool well = ::close(fd) == 0;
    if (!ok) errno = before;
    return ok && well;
  }
  static bool sync(int fd) { return fd >= 0 && closed(fd, ::fsync(fd) == 0); }
  static bool write_close(int fd, const std::string& data, off_t at) {
    if (fd < 0) return false;
    const ssize_t n =
        at < 0 ? ::write(fd, data.data(), data.size()) : ::pwrite(fd, data.data(), data.size(), at);
    return closed(fd, n == static_cast<ssize_t>(data.size()));
  }
  std::string dir_;
  int open_ = -1, held_ = -1;
};

struct Came {  // what LOG holds
  std::uint64_t done = 0, sure = 0, held_done = 0, held_sure = 0;
  bool begun = false;
};

int run(const std::string& dir, std::uint64_t seed, const std::string& log) {
  History h{seed};
  Doer doer{dir};
  Came came;
  std::deque<std::pair<Clock::time_point, std::uint64_t>> past;
  int why = 0;
  if (!doer.begin()) {
    why = errno;
  } else {
    came.begun = true;
    for (;;) {
      const Step s = h.next();
      errno = 0;
      if (!doer.run(s) || (s.kind == Kind::hold && came.held_done % 50 == 49 && !doer.sync_held())) {
        why = errno;
        break;
      }
      h.apply(s);
      ++came.done;
      if (s.kind == Kind::hold && ++came.held_done % 50 == 0)
        came.held_sure = came.held_done, came.sure = came.done;
      if (s.kind == Kind::sync_file || s.kind == Kind::sync_dir) came.sure = came.done;
      const auto now = Clock::now();
      if (past.empty() || now - past.back().first > std::chrono::milliseconds{20})
        past.emplace_back(now, came.done);
    }
  }
  // A filesystem that died answers at once; what was done more than five seconds ago must be there without an
  // fsync.
  const auto limit = Clock::now() - std::chrono::seconds{6};
  for (const auto& [when, done] : past)
    if (when < limit) came.sure = std::max(came.sure, done);
  std::ofstream{log} << came.begun << ' ' << came.done << ' ' << came.sure << ' ' << came.held_done << ' '
                     << came.held_sure << '\n';
  if (!died(why)) {
    const Step s = h.next();
    std::fprintf(stderr, "history: step %llu failed: %s (the one after it: %s)\n",
                 static_cast<unsigned long long>(came.done), std::strerror(why), s.a.c_str());
    return 1;
  }
  return 0;
}

// Finding it
// ---------------------------------------------------------------------------------------------------------

bool read_file(const std::string& path, std::string& content) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) return false;
  char buffer[65536];
  ssize_t n = 0;
  content.clear();
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0) content.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  return n == 0;
}

bool find(const std::string& dir, const std::string& below, Entries& found) {
  DIR* d = ::opendir((dir + "/" + below).c_str());
  if (d == nullptr) return false;
  bool ok = true;
  while (const dirent* e = ::readdir(d)) {
    const std::string name = e->d_name;
    if (name == "." || name == ".." || (below.empty() && name == "held")) continue;
    const std::string at = below.empty() ? name : below + "/" + name, path = dir + "/" + at;
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) return ::closedir(d), false;
    auto n = std::make_shared<Node>();
    n->mode = st.st_mode & 07777;
    n->links = static_cast<int>(st.st_nlink);
    char buffer[4096];
    if (S_ISDIR(st.st_mode)) {
      n->type = 'd';
      ok = ok && find(dir, at, found);
    } else if (S_ISLNK(st.st_mode)) {
      n->type = 'l';
      const ssize_t size = ::readlink(path.c_str(), buffer, sizeof buffer);
      n->set({buffer, static_cast<std::size_t>(std::max<ssize_t>(size, 0))});
    } else {
      std::string content;
      ok = ok && read_file(path, content) && content.size() == static_cast<std::size_t>(st.st_size);
      n->set(std::move(content));
      const ssize_t size = ::getxattr(path.c_str(), "user.step", buffer, sizeof buffer);
      if (size > 0) n->attribute.assign(buffer, static_cast<std::size_t>(size));
    }
    found[at] = std::move(n);
  }
  ::closedir(d);
  return ok;
}

void explain(const Entries& found, const Entries& wanted) {
  const auto text = [](const Node& n) {
    char s[200];
    std::snprintf(s, sizeof s, "%c %o links %d size %zu digest %llx attribute %s", n.type, n.mode, n.links,
                  n.content.size(), static_cast<unsigned long long>(n.hash), n.attribute.c_str());
    return std::string{s};
  };
  for (const auto& [name, node] : wanted)
    if (const auto i = found.find(name); i == found.end())
      std::fprintf(stderr, "  missing %s: %s\n", name.c_str(), text(*node).c_str());
    else if (!same(*i->second, *node))
      std::fprintf(stderr, "  %s: found %s, not %s\n", name.c_str(), text(*i->second).c_str(),
                   text(*node).c_str());
  for (const auto& [name, node] : found)
    if (wanted.count(name) == 0)
      std::fprintf(stderr, "  too much %s: %s\n", name.c_str(), text(*node).c_str());
}

int check(const std::string& dir, std::uint64_t seed, const std::string& log) {
  Came came;
  std::ifstream in{log};
  if (!(in >> came.begun >> came.done >> came.sure >> came.held_done >> came.held_sure)) return 2;
  if (!came.begun) return std::puts("died before the first step"), 0;
  Entries found;
  std::string held;
  if (!find(dir, {}, found) || !read_file(dir + "/held", held)) return std::perror("history: reading"), 1;

  History h{seed};
  Entries last;
  std::int64_t at = -1, held_at = -1;
  std::uint64_t holds = 0;
  std::size_t fewest = SIZE_MAX;
  for (std::uint64_t k = 0;; ++k) {
    if (k >= came.sure && at < 0) {
      if (same(found, h.entries)) at = static_cast<std::int64_t>(k);
      std::size_t wrong = 0;
      for (const auto& [name, node] : h.entries)
        if (const auto i = found.find(name); i == found.end() || !same(*i->second, *node)) ++wrong;
      if (at < 0 && wrong < fewest) {
        fewest = wrong;
        last.clear();
        for (const auto& [name, node] : h.entries) last[name] = std::make_shared<Node>(*node);
      }
    }
    if (holds >= came.held_sure && held_at < 0 && held == h.held) held_at = static_cast<std::int64_t>(holds);
    if (k == came.done + 1) break;  // the step that was under way may have happened
    const Step s = h.next();
    h.apply(s);
    if (s.kind == Kind::hold) ++holds;
  }
  std::printf("%llu steps, %llu sure, found %lld; held: %llu writes, %llu sure, found %lld\n",
              static_cast<unsigned long long>(came.done), static_cast<unsigned long long>(came.sure),
              static_cast<long long>(at), static_cast<unsigned long long>(came.held_done),
              static_cast<unsigned long long>(came.held_sure), static_cast<long long>(held_at));
  if (at < 0) {
    std::fprintf(stderr, "history: what is found is no prefix; the nearest differs in:\n");
    explain(found, last);
  }
  if (held_at < 0) std::fprintf(stderr, "history: the file held open is no prefix of its writes\n");
  return at < 0 || held_at < 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  ::umask(022);
  if (argc == 5 && std::string{argv[1]} == "run")
    return run(argv[2], std::strtoull(argv[3], nullptr, 10), argv[4]);
  if (argc == 5 && std::string{argv[1]} == "check")
    return check(argv[2], std::strtoull(argv[3], nullptr, 10), argv[4]);
  std::fprintf(stderr, "usage: history run|check DIR SEED LOG\n");
  return 2;
}
