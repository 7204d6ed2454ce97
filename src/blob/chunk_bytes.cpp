#include "blob/internal/chunk_bytes.h"

#include <atomic>

namespace indra::blob {
namespace {

class InSegments final : public ChunkBytes {
 public:
  explicit InSegments(Segments& s) : s_{s} {}
  struct SegmentLane final : Lane {
    Segments::StreamPtr stream;
  };
  std::unique_ptr<Lane> lane() override {
    auto l = std::make_unique<SegmentLane>();
    l->stream = s_.stream();
    return l;
  }
  Result<std::uint64_t> append(Lane& lane, ByteView bytes) override {
    INDRA_LET(const Extent e, s_.append(*static_cast<SegmentLane&>(lane).stream, bytes));
    return static_cast<std::uint64_t>(e.segment) << 32 | e.offset;
  }
  Result<void> read(std::uint64_t where, MutableBytes out) override {
    return s_.read(extent(where, static_cast<std::uint32_t>(out.size())), 0, out);
  }
  Result<void> overwrite(std::uint64_t where, std::uint32_t length, std::uint32_t at,
                         ByteView bytes) override {
    return s_.overwrite(extent(where, length), at, bytes);
  }
  void uncache(std::uint64_t where, std::uint32_t length) override { s_.uncache(extent(where, length)); }
  void settled(const Extent& e) override { s_.settled(e); }
  Result<std::vector<Extent>> free(const std::vector<Extent>& dead) override { return s_.punch(dead); }
  Result<void> sync_freed() override { return s_.sync_holes(); }
  Result<void> sync() override { return s_.sync(); }
  bool dirty() const override { return s_.dirty(); }
  Result<std::uint64_t> allocated() override { return s_.allocated(); }

 private:
  static Extent extent(std::uint64_t where, std::uint32_t length) {
    return {static_cast<std::uint32_t>(where >> 32), static_cast<std::uint32_t>(where), length};
  }
  Segments& s_;
};

class InDatabase final : public ChunkBytes {
 public:
  InDatabase(Writer& w, std::int64_t next) : w_{w}, next_{next} {}
  std::unique_ptr<Lane> lane() override { return std::make_unique<Lane>(); }
  Result<std::uint64_t> append(Lane&, ByteView bytes) override {
    const std::int64_t id = next_++;
    if (id > 0xFFFFFFFF) return fail(ENOSPC, "chunk rows");
    INDRA_TRY(w_.mutate([&](Tx& tx) -> Result<void> {
      return Statement{tx, "INSERT INTO chunks(id, data) VALUES(?1, ?2)"}
          .bind(1, id)
          .bind_blob(2, bytes)
          .run();
    }));
    return static_cast<std::uint64_t>(kInDatabase) << 32 | static_cast<std::uint64_t>(id);
  }
  Result<void> read(std::uint64_t where, MutableBytes out) override {
    return w_.read([&](Tx& tx) -> Result<void> {
      Statement q{tx, "SELECT data FROM chunks WHERE id = ?1"};
      q.bind(1, row(where));
      INDRA_LET(const bool found, q.step());
      if (!found || q.blob_at(0).size() < out.size()) return fail(Errc::corrupt, "chunk row is missing");
      std::memcpy(out.data(), q.blob_at(0).data(), out.size());
      return {};
    });
  }
  Result<void> overwrite(std::uint64_t where, std::uint32_t length, std::uint32_t at,
                         ByteView bytes) override {
    Bytes all(length);
    INDRA_TRY(read(where, all));
    std::memcpy(all.data() + at, bytes.data(), bytes.size());
    return w_.mutate([&](Tx& tx) -> Result<void> {
      return Statement{tx, "UPDATE chunks SET data = ?2 WHERE id = ?1"}
          .bind(1, row(where))
          .bind_blob(2, all)
          .run();
    });
  }
  Result<std::vector<Extent>> free(const std::vector<Extent>& dead) override {
    return w_.mutate([&](Tx& tx) -> Result<std::vector<Extent>> {
      for (const Extent& e : dead)
        INDRA_TRY(Statement(tx, "DELETE FROM chunks WHERE id >= ?1 AND id < ?1 + ?2")
                      .bind(1, static_cast<std::int64_t>(e.offset))
                      .bind(2, static_cast<std::int64_t>(e.length))
                      .run());
      return std::vector<Extent>{};
    });
  }
  Result<void> sync_freed() override { return {}; }
  Result<void> sync() override { return {}; }
  bool dirty() const override { return false; }
  Result<std::uint64_t> allocated() override {
    return w_.read([&](Tx& tx) -> Result<std::uint64_t> {
      Statement q{tx, "SELECT coalesce(sum(length(data)), 0) FROM chunks"};
      INDRA_TRY(q.step());
      return static_cast<std::uint64_t>(q.int64_at(0));
    });
  }

 private:
  static std::int64_t row(std::uint64_t where) { return static_cast<std::int64_t>(where & 0xFFFFFFFF); }
  Writer& w_;
  std::atomic<std::int64_t> next_;
};

}  // namespace

std::unique_ptr<ChunkBytes> bytes_in(Segments& s) { return std::make_unique<InSegments>(s); }
Result<std::unique_ptr<ChunkBytes>> bytes_in(Writer& w) {
  INDRA_LET(const std::int64_t next, w.read([](Tx& tx) -> Result<std::int64_t> {
    // A row that is gone may still be named among the dead, or the loose: whoever got its number would die
    // with it.
    Statement q{tx,
                "SELECT max((SELECT coalesce(max(id), 0) FROM chunks),"
                " (SELECT coalesce(max(offset + length - 1), 0) FROM dead_extents WHERE segment = ?1),"
                " (SELECT coalesce(max(place + length - 1), 0) FROM loose WHERE segment = ?1)) + 1"};
    q.bind(1, static_cast<std::int64_t>(kInDatabase));
    INDRA_TRY(q.step());
    return q.int64_at(0);
  }));
  return std::unique_ptr<ChunkBytes>{std::make_unique<InDatabase>(w, next)};
}

}  // namespace indra::blob
