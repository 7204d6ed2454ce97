// What a file counts as stored, whatever was written, cut off and written again between two publishes (F14).
#include <gtest/gtest.h>

#include "blob/internal/test_store.h"

namespace indra::blob {
namespace {

// F14: found by fsx, whose files counted less than they held, and at last less than nothing
TEST(Stored, GivenPatchesInAHole_WhenTheyAreCutOffAndWrittenOver_ThenEachCountsOnce) {
  for (const std::size_t cut : {70000u, 65536u, 69632u}) {
    TestStore t;
    auto c = t.content();
    TestStore::take(c->write(200000, random_bytes(60000, 1)));
    const BlobId id = TestStore::take(t.publish(*c)).id;
    TestStore::take(c->write(65536 + 8192, random_bytes(9000, 2)));
    TestStore::take(t.publish(*c, id, true, Content::For::sync));
    TestStore::take(t.check_stored(id));
    TestStore::take(c->truncate(cut));
    TestStore::take(c->write(65536 + 4096, random_bytes(12000, 3)));
    TestStore::take(t.publish(*c, id, true, Content::For::sync));
    TestStore::take(t.check_stored(id));
    TestStore::take(c->write(65536 + 8192, random_bytes(100, 4)));
    TestStore::take(t.publish(*c, id));
    TestStore::take(t.check_stored(id));
  }
}

TEST(Stored, GivenAFileCutShortAndWrittenAnew_WhenPublished_ThenWhatItHoldsCountsOnce) {
  for (const auto how : {Content::For::sync, Content::For::publish})
    for (const std::size_t cut : {0u, 1u, 4096u, 65536u})
      for (const std::size_t size : {3393u, 65537u, 70000u}) {
        SCOPED_TRACE(std::to_string(cut) + " of 70000, then " + std::to_string(size));
        TestStore t;
        auto c = t.content();
        TestStore::take(c->write(0, random_bytes(70000, 1)));
        const BlobId id = TestStore::take(t.publish(*c, {}, true, how)).id;
        TestStore::take(t.check_stored(id));
        TestStore::take(c->truncate(cut));
        TestStore::take(c->write(size - 1, random_bytes(1, 2)));
        TestStore::take(c->write(0, random_bytes(size, 2)));
        TestStore::take(t.check_stored(TestStore::take(t.publish(*c, id)).id));
      }
}

}  // namespace
}  // namespace indra::blob
