// Several files of one store against flat buffers: writes, truncations, holes, copies, versions, folds,
// crashes.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "blob/internal/test_store.h"

namespace indra::blob {

struct Op {
  unsigned kind, file, a, b, c;
};
static void showValue(const Op& o, std::ostream& os) {
  os << "{" << o.kind << "," << o.file << "," << o.a << "u," << o.b << "u," << o.c << "u}";
}
static std::ostream& operator<<(std::ostream& os, const Op& o) {
  showValue(o, os);
  return os;
}

}  // namespace indra::blob

namespace rc {
template <>
struct Arbitrary<indra::blob::Op> {
  static Gen<indra::blob::Op> arbitrary() {
    using indra::blob::Op;
    return gen::build<Op>(gen::set(&Op::kind, gen::inRange(0u, 20u)),
                          gen::set(&Op::file, gen::inRange(0u, 3u)), gen::set(&Op::a), gen::set(&Op::b),
                          gen::set(&Op::c));
  }
};
}  // namespace rc

namespace indra::blob {

namespace {

constexpr std::size_t kFiles = 3;
constexpr std::size_t kMost = 700'000;

class Model {
 public:
  explicit Model(const ContentStore::Options& o) : single_file_{o.single_file}, t_{o} {
    for (auto& f : files_) f.content = t_.content();
  }

  void run(const Op& op) {
    File& f = files_[op.file % kFiles];
    const std::size_t at = place(op.a);
    switch (op.kind) {
      case 0:
      case 1:
      case 2:
      case 3:
        write(f, at, length(op.b), op.c);
        break;
      case 4:
      case 5:
        write(f, at % (f.model.size() + 1), 1 + op.b % 5000, op.c);
        break;
      case 6:
        truncate(f, at);
        break;
      case 7:
        truncate(f, op.b % 3 == 0 ? 0 : op.b % 2000);
        break;
      case 8:
        punch(f, at, length(op.b));
        break;
      case 9:
        copy(files_[op.b % kFiles], copy_place(op.c), f, op.c % 4 == 3 ? at : copy_place(op.a),
             op.c % 4 == 3 ? length(op.c) : 65536 * (1 + op.b % 3));
        break;
      case 10:
      case 11:
      case 12:
        publish(f, Content::For::sync, op.b % 4 != 0);
        break;
      case 13:
      case 14:
        publish(f, Content::For::publish, op.b % 4 != 0);
        break;
      case 15:
        TestStore::take(t_.settle());
        if (f.blob) TestStore::take(t_.check_stored(f.blob));
        break;
      case 16:
        for (unsigned i = 0; i < op.b % 4; ++i) {
          t_.clock.advance(3 * kSecond);
          TestStore::take(t_.store().work());
        }
        break;
      case 17:
        drop_version(op.b);
        break;
      case 18:
        reopen(op.b % 2 == 0);
        break;
      case 19:
        if (f.blob) (void)TestStore::take(t_.store().hash(f.blob, true));
        break;
      default:
        break;
    }
    check(f);
  }

  void finish() {
    for (auto& f : files_) publish(f, Content::For::publish, true);
    TestStore::take(t_.settle());
    for (auto& f : files_) {
      check(f);
      if (f.blob) RC_ASSERT(TestStore::take(t_.store().hash(f.blob, true)) == BlobHash::of(f.model));
      f.content.reset();
    }
    TestStore::take(t_.settle());
    RC_ASSERT(TestStore::take(t_.store().at_rest()));
    TestStore::take(t_.check());
    if (!single_file_)
      RC_ASSERT(TestStore::take(t_.store().stats()).physical <= t_.live_bytes() * 12 / 10 + 64 * 1024);
    for (const auto& v : versions_) {
      RC_ASSERT(t_.get(v.blob) == v.model);
      RC_ASSERT(TestStore::take(t_.store().hash(v.blob, true)) == BlobHash::of(v.model));
    }
    while (!versions_.empty()) drop_version(0);
    for (auto& f : files_)
      if (f.blob) TestStore::take(t_.drop(f.blob));
    TestStore::take(t_.settle());
    RC_ASSERT(TestStore::take(t_.store().at_rest()));
    RC_ASSERT(t_.live_bytes() == 0u);
    RC_ASSERT(TestStore::take(t_.store().stats()).blobs == 0u);
    const auto pages = TestStore::take(t_.writer().read([](Tx& tx) -> Result<std::int64_t> {
      Statement q{tx, "SELECT count(*) FROM pages"};
      INDRA_TRY(q.step());
      return q.int64_at(0);
    }));
    RC_ASSERT(pages == 0);
  }

 private:
  struct File {
    std::unique_ptr<Content> content;
    Bytes model, durable;  // as written; as it was when last put into rows
    BlobId blob;
  };
  struct Version {
    BlobId blob;
    Bytes model;
  };

  static std::size_t place(unsigned v) {
    static constexpr std::size_t edges[] = {0,     1,     1023,   1024,   4095,   4096,      65535,
                                            65536, 65537, 131072, 200000, 262144, 4096 * 17, 300001};
    return v % 2 == 0 ? edges[v / 2 % std::size(edges)] : v / 2 % (kMost / 2);
  }
  static std::size_t copy_place(unsigned v) { return v % 4 == 3 ? place(v) : v / 4 % 5 * 65536; }
  static std::size_t length(unsigned v) {
    static constexpr std::size_t some[] = {1, 100, 1000, 4096, 5000, 20000, 65536, 70000, 131072, 200000};
    return some[v % std::size(some)];
  }
  void write(File& f, std::size_t at, std::size_t n, unsigned seed) {
    const Bytes b = random_bytes(n, seed);
    TestStore::take(f.content->write(at, b));
    if (f.model.size() < at + n) f.model.resize(at + n);
    std::copy(b.begin(), b.end(), f.model.begin() + static_cast<std::ptrdiff_t>(at));
  }
  void truncate(File& f, std::size_t n) {
    TestStore::take(f.content->truncate(n));
    f.model.resize(n);
  }
  void punch(File& f, std::size_t at, std::size_t n) {
    TestStore::take(f.content->punch(at, n));
    for (std::size_t i = at; i < std::min(at + n, f.model.size()); ++i) f.model[i] = std::byte{0};
  }
  void copy(File& from, std::size_t from_at, File& to, std::size_t at, std::size_t n) {
    if (&from == &to) return;
    const auto done = TestStore::take(to.content->copy_from(*from.content, from_at, at, n));
    const std::size_t want = from_at >= from.model.size() ? 0 : std::min(n, from.model.size() - from_at);
    RC_ASSERT(done == want);
    if (want == 0) return;
    if (to.model.size() < at + want) to.model.resize(at + want);
    std::copy_n(from.model.begin() + static_cast<std::ptrdiff_t>(from_at), want,
                to.model.begin() + static_cast<std::ptrdiff_t>(at));
  }
  void publish(File& f, Content::For how, bool in_place) {
    auto staged = TestStore::take(f.content->stage(how));
    const auto rows = [&](Tx& tx) -> Result<BlobInfo> {
      INDRA_LET(BlobInfo i, staged->apply(tx, in_place));
      INDRA_TRY(t_.store().add_ref(tx, i.id));
      if (in_place) INDRA_TRY(t_.store().drop_ref(tx, f.blob));
      return i;
    };
    const BlobInfo i = TestStore::take(staged->needs_content_sync() ? t_.writer().mutate_content(rows)
                                                                    : t_.writer().mutate(rows));
    staged->accept();
    RC_ASSERT(i.size == f.model.size());
    if (i.hash) RC_ASSERT(*i.hash == BlobHash::of(f.model));
    if (!in_place && f.blob) versions_.push_back({f.blob, f.durable});
    f.blob = i.id;
    f.durable = f.model;
    TestStore::take(t_.check_stored(f.blob));
  }
  void drop_version(unsigned which) {
    if (versions_.empty()) return;
    const std::size_t i = which % versions_.size();
    TestStore::take(t_.drop(versions_[i].blob));
    versions_.erase(versions_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  void reopen(bool crash) {
    for (auto& f : files_) {
      f.content.reset();
      f.model = f.durable;
    }
    if (crash) {
      t_.crash();
    } else {
      t_.close();
      t_.open();
    }
    for (auto& f : files_) f.content = t_.content(f.blob);
    TestStore::take(t_.check());
    for (const auto& v : versions_) RC_ASSERT(t_.get(v.blob) == v.model);
  }
  void check(File& f) {
    RC_ASSERT(f.content->size() == f.model.size());
    RC_ASSERT(TestStore::read_all(*f.content) == f.model);
  }

  bool single_file_;
  TestStore t_;
  std::array<File, kFiles> files_;
  std::vector<Version> versions_;
};

ContentStore::Options small_store() {
  ContentStore::Options o;
  o.segment_size = 8 << 20;
  o.buffer_limit = 300'000;
  o.patch_limit = 100'000;
  o.cache_limit = 1 << 20;
  return o;
}

RC_GTEST_PROP(ContentModel, equals_flat_buffers, ()) {
  const auto ops = *rc::gen::resize(
      60, rc::gen::container<std::vector<Op>>(rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<Op>())));
  Model m{small_store()};
  for (const Op& op : ops) m.run(op);
  m.finish();
}

RC_GTEST_PROP(ContentModel, equals_flat_buffers_in_a_single_file, ()) {
  const auto ops = *rc::gen::resize(
      40, rc::gen::container<std::vector<Op>>(rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<Op>())));
  ContentStore::Options o = small_store();
  o.single_file = true;
  Model m{o};
  for (const Op& op : ops) m.run(op);
  m.finish();
}

}  // namespace
}  // namespace indra::blob
