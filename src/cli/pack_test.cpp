#include "cli/pack.h"

#include <gtest/gtest.h>

#include "testkit/must.h"

namespace indra::cli {
namespace {

Message item(const char* path, std::string_view body) {
  Message m;
  m.type = FrameType::data;
  m.head = {{"op", "file"}, {"path", path}, {"size", body.size()}};
  m.body.assign(as_view(body).begin(), as_view(body).end());
  return m;
}

std::string packed() {
  std::string out;
  PackWriter w{[&](ByteView b) -> Result<void> {
    out += as_text(b);
    return {};
  }};
  must(w.begin({{"format", 1}, {"branch", "main"}}));
  must(w.add(item("a", "first")));
  must(w.add(item("b", std::string(5000, 'b'))));
  must(w.end());
  return out;
}

Result<std::vector<std::string>> read(std::string_view text) {
  PackReader r{[&](MutableBytes out) -> Result<std::size_t> {
    const std::size_t n = std::min(out.size(), text.size());
    std::memcpy(out.data(), text.data(), n);
    text.remove_prefix(n);
    return n;
  }};
  INDRA_LET(const Json about, r.begin());
  std::vector<std::string> got{text_field(about, "branch")};
  for (;;) {
    INDRA_LET(const auto m, r.next());
    if (!m) return got;
    got.push_back(text_field(m->head, "path") + "=" + std::string{as_text(m->body)});
  }
}

TEST(Pack, GivenAPack_WhenRead_ThenItIsWhatWasWritten) {
  EXPECT_EQ(must(read(packed())),
            (std::vector<std::string>{"main", "a=first", "b=" + std::string(5000, 'b')}));
}

// P2
TEST(Pack, GivenAnyBitChangedOrAnyCut_WhenRead_ThenItIsRefused) {
  const std::string whole = packed();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
    EXPECT_FALSE(read(bad)) << "byte " << i;
    EXPECT_FALSE(read(std::string_view{whole}.substr(0, i))) << "cut at " << i;
  }
  EXPECT_FALSE(read(whole + "x"));
}

// P2: whole messages, taken out or put in elsewhere.
TEST(Pack, GivenMessagesOfAnotherPack_WhenRead_ThenItIsRefused) {
  const std::string whole = packed();
  std::vector<std::size_t> at{64};
  while (at.back() < whole.size())
    at.push_back(at.back() + 4 + load_le<std::uint32_t>(as_view(whole).data() + at.back()) + 32);
  ASSERT_EQ(at.size(), 5U);
  EXPECT_FALSE(read(whole.substr(0, at[1]) + whole.substr(at[2])));  // one less
  EXPECT_FALSE(read(whole.substr(0, at[2]) + whole.substr(at[1])));  // one twice
  EXPECT_FALSE(read(whole.substr(0, at[1]) + whole.substr(at[2], at[3] - at[2]) +
                    whole.substr(at[1], at[2] - at[1]) + whole.substr(at[3])));  // two exchanged
}

}  // namespace
}  // namespace indra::cli
