// docs/branches.md, G5 and G6.
#include "merge/text.h"

#include <gtest/gtest.h>

namespace indra {
namespace {

MergedText merge(std::optional<std::string> base, std::string target, std::string source,
                 bool markers = false) {
  std::optional<ByteView> b;
  if (base) b = as_view(*base);
  return merge_texts(b, as_view(target), as_view(source), {"base", "main", "agent"}, markers).value();
}
std::string text(const MergedText& m) { return std::string{as_text(m.bytes)}; }

TEST(MergeText, GivenChangesInDifferentPlaces_WhenMerged_ThenBothAreThere) {
  const auto m = merge("1\n2\n3\n4\n5\n", "one\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n");
  EXPECT_EQ(m.verdict, TextVerdict::merged);
  EXPECT_EQ(text(m), "one\n2\n3\n4\nfive\n");
}

TEST(MergeText, GivenChangesInOnePlace_WhenMerged_ThenItOverlaps) {
  EXPECT_EQ(merge("1\n", "a\n", "b\n").verdict, TextVerdict::overlap);
  const auto m = merge("1\n", "a\n", "b\n", true);
  EXPECT_EQ(m.verdict, TextVerdict::marked);
  EXPECT_EQ(text(m), "<<<<<<< main\na\n=======\nb\n>>>>>>> agent\n");
}

TEST(MergeText, GivenOneSideAsItWas_WhenMerged_ThenTheOtherIsTaken) {
  EXPECT_EQ(merge("1\n", "1\n", "b\n").verdict, TextVerdict::source);
  EXPECT_EQ(merge("1\n", "a\n", "1\n").verdict, TextVerdict::target);
  EXPECT_EQ(merge("1\n", "a\n", "a\n").verdict, TextVerdict::same);
  EXPECT_EQ(merge(std::nullopt, "a\n", "a\n").verdict, TextVerdict::same);
}

TEST(MergeText, GivenBytesThatAreNoText_WhenBothChangedThem_ThenItOverlaps) {
  const std::string zero{"a\0b\n2\n3\n", 8};
  EXPECT_EQ(merge(zero, zero + "4\n", "x" + zero, true).verdict, TextVerdict::overlap);
}

TEST(MergeText, GivenNoLastNewline_WhenMerged_ThenItStaysSo) {
  const auto m = merge("1\n2\n3\n4\n5", "one\n2\n3\n4\n5", "1\n2\n3\n4\nfive");
  EXPECT_EQ(m.verdict, TextVerdict::merged);
  EXPECT_EQ(text(m), "one\n2\n3\n4\nfive");
}

}  // namespace
}  // namespace indra
