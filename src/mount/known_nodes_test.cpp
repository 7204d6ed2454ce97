#include "mount/internal/known_nodes.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace indra {
namespace {

TEST(KnownNodes, equal_a_map_of_counts) {
  KnownNodes known;
  std::map<std::uint64_t, std::uint64_t> model;
  std::mt19937_64 random{7};
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t node = 16 + random() % 3000;
    if (random() % 5 < 2) {
      known.add(node, node + 1, node % 2 == 0);
      ++model[node];
    } else if (const auto it = model.find(node); it != model.end()) {
      const std::uint64_t n = 1 + random() % it->second;
      known.forget(node, n);
      if ((it->second -= n) == 0) model.erase(it);
    }
    ASSERT_EQ(known.find(node).has_value(), model.contains(node)) << "after step " << i;
  }
  EXPECT_EQ(known.size(), model.size());
  EXPECT_EQ(known.all().size(), model.size());
  for (const auto& [node, n] : model) {
    const auto k = known.find(node);
    ASSERT_TRUE(k);
    EXPECT_EQ(k->parent, node + 1);
    EXPECT_EQ(k->directory, node % 2 == 0);
    known.forget(node, n);
  }
  EXPECT_EQ(known.size(), 0u);
}

TEST(KnownNodes, forgetting_what_is_not_known_changes_nothing) {
  KnownNodes known;
  known.forget(77, 3);
  known.add(77, 1, false);
  known.forget(78, 1);
  EXPECT_TRUE(known.find(77));
  EXPECT_FALSE(known.find(78));
}

}  // namespace
}  // namespace indra
