#include "testkit/nth_fault.h"

namespace indra {
namespace {

class FaultyFile final : public DiskFile {
 public:
  FaultyFile(NthFault& f, std::unique_ptr<DiskFile> below) : f_{f}, below_{std::move(below)} {}
  Result<std::size_t> read(std::uint64_t at, MutableBytes out) const override {
    return below_->read(at, out);
  }
  Result<void> write(std::uint64_t at, ByteView bytes) override {
    const int code = f_.ask(NthFault::Op::write);
    if (code == 0) return below_->write(at, bytes);
    if (f_.partial()) INDRA_TRY(below_->write(at, bytes.first(bytes.size() / 2)));
    return fail(code, "write, planted");
  }
  Result<void> sync() override {
    if (const int code = f_.ask(NthFault::Op::sync); code != 0) return fail(code, "sync, planted");
    return below_->sync();
  }
  Result<void> punch(std::uint64_t at, std::uint64_t n) override {
    if (const int code = f_.ask(NthFault::Op::punch); code != 0) return fail(code, "punch, planted");
    return below_->punch(at, n);
  }
  Result<std::uint64_t> size() const override { return below_->size(); }
  Result<std::uint64_t> allocated() const override { return below_->allocated(); }

 private:
  NthFault& f_;
  std::unique_ptr<DiskFile> below_;
};

class FaultyDisk final : public Disk {
 public:
  FaultyDisk(NthFault& f, Disk& below) : f_{f}, below_{below} {}
  Result<std::unique_ptr<DiskFile>> open(const std::string& path, bool create) override {
    if (create)
      if (const int code = f_.ask(NthFault::Op::create); code != 0) return fail(code, "create, planted");
    INDRA_LET(auto file, below_.open(path, create));
    return std::make_unique<FaultyFile>(f_, std::move(file));
  }
  Result<void> make_dir(const std::string& path) override { return below_.make_dir(path); }
  Result<void> remove(const std::string& path) override {
    if (const int code = f_.ask(NthFault::Op::remove); code != 0) return fail(code, "remove, planted");
    return below_.remove(path);
  }
  Result<std::vector<std::string>> list(const std::string& dir) override { return below_.list(dir); }
  Result<void> sync_dir(const std::string& path) override {
    if (const int code = f_.ask(NthFault::Op::sync_dir); code != 0) return fail(code, "sync_dir, planted");
    return below_.sync_dir(path);
  }
  bool exists(const std::string& path) override { return below_.exists(path); }
  Result<std::unique_ptr<DiskMap>> map(const std::string& path, std::size_t size) override {
    return below_.map(path, size);
  }
  std::uint64_t boot() const override { return below_.boot(); }
  Result<Space> space(const std::string& path) override {
    auto s = below_.space(path);
    if (s && f_.says_full()) s->free = 0;
    return s;
  }

 private:
  NthFault& f_;
  Disk& below_;
};

}  // namespace

std::unique_ptr<Disk> NthFault::over(Disk& below) { return std::make_unique<FaultyDisk>(*this, below); }

}  // namespace indra
