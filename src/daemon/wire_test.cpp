#include "daemon/wire.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <thread>

#include "daemon/channel.h"
#include "daemon/items.h"

namespace indra {
namespace {

Bytes encoded(const Message& m) {
  auto prefix = encode_prefix(m);
  EXPECT_TRUE(prefix);
  Bytes b(as_view(*prefix).begin(), as_view(*prefix).end());
  b.insert(b.end(), m.body.begin(), m.body.end());
  return b;
}

Bytes frame(std::uint32_t length, std::uint8_t type, std::uint32_t head, std::string_view rest) {
  Bytes b(9);
  store_le(b.data(), length);
  b[4] = static_cast<std::byte>(type);
  store_le(b.data() + 5, head);
  b.insert(b.end(), as_view(rest).begin(), as_view(rest).end());
  return b;
}

RC_GTEST_PROP(WireProperty, messages_arrive_equal_however_the_bytes_are_cut,
              (const std::vector<std::pair<std::string, std::vector<std::uint8_t>>>& parts)) {
  Bytes all;
  std::vector<Message> sent;
  for (const auto& [name, body] : parts) {
    Message m;
    m.type = FrameType::data;
    m.head["name"] = name_to_json(name);
    const auto bytes = std::as_bytes(std::span{body});
    m.body.assign(bytes.begin(), bytes.end());
    const Bytes e = encoded(m);
    all.insert(all.end(), e.begin(), e.end());
    sent.push_back(m);
  }
  FrameReader reader;
  std::vector<Message> got;
  for (std::size_t at = 0; at < all.size();) {
    const auto n = std::min(all.size() - at, *rc::gen::inRange<std::size_t>(1, 40));
    reader.feed(ByteView{all}.subspan(at, n));
    at += n;
    for (;;) {
      auto m = reader.next();
      RC_ASSERT(m.has_value());
      if (!*m) break;
      got.push_back(std::move(**m));
    }
  }
  RC_ASSERT(reader.empty());
  RC_ASSERT(got.size() == sent.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    RC_ASSERT(got[i].head == sent[i].head);
    RC_ASSERT(got[i].body == sent[i].body);
    RC_ASSERT(name_field(got[i].head, "name") == parts[i].first);
  }
}

TEST(FrameReader, GivenALengthOutOfBounds_WhenRead_ThenItIsRefusedBeforeTheBytesCome) {
  for (const std::uint32_t length : {0u, 4u, static_cast<std::uint32_t>(kMaxFrame) + 1, 0xFFFFFFFFu}) {
    FrameReader r;
    r.feed(frame(length, 1, 2, "{}"));
    EXPECT_FALSE(r.next()) << length;
  }
}

TEST(FrameReader, GivenAHeadThatIsNoObject_WhenRead_ThenItIsRefused) {
  for (const std::string_view text : {"", "[]", "1", "{", "{\"a\":\xff}", "nul"}) {
    FrameReader r;
    r.feed(
        frame(static_cast<std::uint32_t>(5 + text.size()), 1, static_cast<std::uint32_t>(text.size()), text));
    EXPECT_FALSE(r.next()) << text;
  }
}

TEST(FrameReader, GivenAHeadLongerThanItsFrame_WhenRead_ThenItIsRefused) {
  FrameReader r;
  r.feed(frame(7, 1, 3, "{}"));
  EXPECT_FALSE(r.next());
}

TEST(FrameReader, GivenDeepNesting_WhenRead_ThenItIsRefused) {
  const std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  FrameReader r;
  r.feed(
      frame(static_cast<std::uint32_t>(5 + deep.size()), 1, static_cast<std::uint32_t>(deep.size()), deep));
  EXPECT_FALSE(r.next());
}

TEST(Wire, GivenAnError_WhenSent_ThenItArrivesWithItsCodeAndContext) {
  for (const Error& e : {Error{std::make_error_code(std::errc::file_exists), "a \xff b"},
                         Error{make_error_code(Errc::newer_format), "vault.db"}}) {
    const Error back = error_of(error_message(e));
    EXPECT_EQ(back.context, e.context);
    EXPECT_EQ(to_errno(back), to_errno(e));
  }
  EXPECT_EQ(error_of(error_message({make_error_code(Errc::corrupt), ""})).code,
            make_error_code(Errc::corrupt));
}

TEST(Wire, GivenFieldsOfTheWrongKind_WhenRead_ThenTheFallbackIsTaken) {
  const Json j = Json::parse(R"({"a": [], "b": "x", "c": {"hex": "zz"}, "d": {"hex": "ff"}})");
  EXPECT_EQ(text_field(j, "a", "f"), "f");
  EXPECT_EQ(int_field(j, "b", 7), 7);
  EXPECT_FALSE(bool_field(j, "b"));
  EXPECT_FALSE(name_field(j, "c"));
  EXPECT_EQ(name_field(j, "d"), "\xff");
  EXPECT_FALSE(name_field(j, "e"));
}

TEST(Items, GivenPathsThatWouldEscape_WhenReceived_ThenTheyAreRefused) {
  for (const std::string_view bad : {"..", "a/..", "../a", "/a", "a//b", "a/", ".", "a/./b"})
    EXPECT_FALSE(safe_relative(bad)) << bad;
  for (const std::string_view good : {"", "a", "a/b", "..a", "a\nb", "\xff"})
    EXPECT_TRUE(safe_relative(good)) << good;
  EXPECT_FALSE(safe_relative(std::string_view{"a\0b", 3}));
  EXPECT_FALSE(safe_relative(std::string(256, 'n')));
  Message m;
  m.type = FrameType::data;
  m.head = {{"op", "link"}, {"path", "a"}, {"target", "../b"}};
  EXPECT_FALSE(to_item(m));
}

TEST(Items, GivenAnItem_WhenItTravels_ThenItIsTheSame) {
  Item i;
  i.path = "dir/\xff\n";
  i.mode = 0100640;
  i.uid = 7;
  i.mtime = -5;
  i.size = 3;
  i.xattrs["user.x"] = std::string{"\0\xff", 2};
  i.body.resize(3);
  const auto back = to_item(to_message(i));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->path, i.path);
  EXPECT_EQ(back->mode, i.mode);
  EXPECT_EQ(back->uid, i.uid);
  EXPECT_FALSE(back->gid);
  EXPECT_EQ(back->mtime, i.mtime);
  EXPECT_EQ(back->xattrs, i.xattrs);
  EXPECT_EQ(back->body, i.body);
}

TEST(LocalChannel, GivenASenderThatIsAhead_WhenTheOtherSideCloses_ThenItWakes) {
  auto [a, b] = local_channels();
  std::thread sender{[&a = a] {
    for (;;) {
      Message m;
      m.body.resize(1 << 20);
      if (!a->send(std::move(m))) return;
    }
  }};
  EXPECT_TRUE(b->receive());
  b->close();
  sender.join();
}

}  // namespace
}  // namespace indra
