#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "cli/app.h"
#include "cli/host.h"
#include "cli/terminal.h"

namespace indra::cli {
namespace {

TEST(VaultPath, GivenAColonBeforeASlash_WhenParsed_ThenItIsAPlaceInTheVault) {
  const auto main = parse_vault_path(":/notes/a.md");
  ASSERT_TRUE(main);
  EXPECT_EQ(main->branch, "main");
  EXPECT_EQ(main->path, "/notes/a.md");
  const auto agent = parse_vault_path("agent:/x//y/./z");
  ASSERT_TRUE(agent);
  EXPECT_EQ(agent->branch, "agent");
  EXPECT_EQ(agent->path, "/x/y/z");
  EXPECT_EQ(parse_vault_path(":/")->path, "/");
  EXPECT_EQ(parse_vault_path(":/a/")->path, "/a/");
  EXPECT_EQ(parse_vault_path(":/a:b")->path, "/a:b");
}

TEST(VaultPath, GivenAnythingElse_WhenParsed_ThenItIsAHostPath) {
  for (const std::string_view s : {"", "a", "/a/b", "./a:/b", "a/b:/c", ":", ":a", "a:b", ".x:/a", "-x:/a"})
    EXPECT_FALSE(parse_vault_path(s)) << s;
}

TEST(VaultPath, GivenDotDot_WhenParsed_ThenItIsWrongUsage) {
  EXPECT_THROW((void)parse_vault_path(":/a/../b"), Usage);
}

RC_GTEST_PROP(VaultPathProperty, what_is_parsed_is_canonical_and_parses_to_itself,
              (const std::string& tail)) {
  const std::string argument = "b:/" + tail;
  try {
    const auto p = parse_vault_path(argument);
    RC_ASSERT(p.has_value());
    RC_ASSERT(p->path.starts_with('/'));
    RC_ASSERT(p->path.find("//") == std::string::npos);
    RC_ASSERT(parse_vault_path("b:" + p->path)->path == p->path);
  } catch (const Usage&) {
  }
}

TEST(Names, GivenTheRulesOfNames_WhenChecked_ThenOnlyGoodOnesPass) {
  for (const std::string_view good : {"a", "main", "a.b", "ä", "a b"}) EXPECT_TRUE(valid_name(good)) << good;
  for (const std::string_view bad : {"", ".a", "-a", "a/b", "a:b"}) EXPECT_FALSE(valid_name(bad)) << bad;
  EXPECT_FALSE(valid_name(std::string_view{"a\0b", 3}));
  EXPECT_TRUE(valid_name(std::string(200, 'n')));
  EXPECT_FALSE(valid_name(std::string(201, 'n')));
}

TEST(MountInfo, GivenMountsOfManyKinds_WhenParsed_ThenOnlyOursAreFound) {
  const auto m = parse_mountinfo(
      "22 1 0:21 / /proc rw - proc proc rw\n"
      "91 22 0:50 / /home/me/my\\040vault rw,nosuid shared:5 - fuse.indrafs /v/a\\040b rw,user_id=0\n"
      "92 22 0:51 /vault/notes /mnt/notes rw - fuse.indrafs /v rw\n"
      "93 22 0:52 / /home/me/sshfs rw - fuse.sshfs host: rw\n"
      "broken line\n");
  ASSERT_EQ(m.size(), 2u);
  EXPECT_EQ(m[0].mountpoint, "/home/me/my vault");
  EXPECT_EQ(m[0].source, "/v/a b");
  EXPECT_EQ(m[1].root, "/vault/notes");
  EXPECT_EQ(mount_of(m, "/home/me/my vault/vault/x"), &m[0]);
  EXPECT_EQ(mount_of(m, "/home/me/my vaults"), nullptr);
  EXPECT_EQ(mount_of(m, "/mnt/notes"), &m[1]);
}

TEST(PlaceInMount, GivenThePartsOfALayout_WhenAPathIsIn_ThenItsBranchIsFound) {
  const Json vault = {{"layout", "vault"}, {"branch", "main"}, {"snapshot", ""}};
  EXPECT_EQ(place_in_mount(vault, "/vault/a/b")->path, "/a/b");
  EXPECT_EQ(place_in_mount(vault, "/vault")->path, "/");
  EXPECT_EQ(place_in_mount(vault, "/branches/agent/x")->branch, "agent");
  EXPECT_EQ(place_in_mount(vault, "/snapshots/monday/x")->snapshot, "monday");
  EXPECT_FALSE(place_in_mount(vault, "/"));
  EXPECT_FALSE(place_in_mount(vault, "/.indra/status.json"));
  EXPECT_FALSE(place_in_mount(vault, "/branches"));
  EXPECT_EQ(place_in_mount({{"layout", "plain"}, {"branch", "b"}}, "/vault/a")->path, "/vault/a");
}

TEST(TarNames, GivenNamesThatWouldEscape_WhenMadeHarmless_ThenTheyStayBelow) {
  EXPECT_EQ(harmless("/etc/passwd"), "etc/passwd");
  EXPECT_EQ(harmless("../../x"), "x");
  EXPECT_EQ(harmless("./a/./b/"), "a/b");
  EXPECT_FALSE(harmless("./"));
  EXPECT_FALSE(harmless(".."));
}

RC_GTEST_PROP(TarNamesProperty, whatever_a_tar_says_is_a_safe_item, (const std::string& name)) {
  std::string s = name;
  std::erase(s, '\0');
  const auto h = harmless(s);
  if (h && h->size() <= 255) RC_ASSERT(safe_relative(*h));
}

TEST(Terminal, GivenControlCharacters_WhenShownOnATerminal_ThenTheyAreEscaped) {
  EXPECT_EQ(shown_name("a\033[31mb\n", true), "a\\x1b[31mb\\n");
  EXPECT_EQ(shown_name("ä\xff", true), "\\xc3\\xa4\\xff");
  EXPECT_EQ(shown_name("ä", true), "ä");
  EXPECT_EQ(shown_name("\xc2\x9b"
                       "31m",
                       true),
            "\\xc2\\x9b31m");
  EXPECT_EQ(shown_name("a\nb", false), "a\nb");
  EXPECT_EQ(mode_text(0104755), "-rwsr-xr-x");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
}

}  // namespace
}  // namespace indra::cli
