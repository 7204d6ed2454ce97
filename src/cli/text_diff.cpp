#include "cli/text_diff.h"

#include <fmt/format.h>
#include <git2.h>
#include <sys/stat.h>

#include <memory>

namespace indra::cli {
namespace {

/// git's numbers for what a file is.
std::uint32_t git_mode(std::uint32_t mode) {
  if (S_ISLNK(mode)) return 0120000;
  return (mode & 0100) != 0 ? 0100755 : 0100644;
}

/// A path as git quotes it: only where it would be misread.
std::string quoted(const std::string& prefix, const std::string& path) {
  const std::string all = prefix + path;
  std::string out;
  for (const char c : all) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (u < 0x20 || u == 0x7f)
      out += fmt::format("\\{:03o}", u);
    else
      out += c;
  }
  return out.size() == all.size() ? all : "\"" + out + "\"";
}

/// "--- a/NAME": with a tab behind a name with blanks, so that it is known where it ends.
std::string marked(const char* mark, const std::string& name) {
  return fmt::format("{} {}{}\n", mark, name, name.find(' ') != std::string::npos ? "\t" : "");
}

int append_line(const git_diff_delta*, const git_diff_hunk*, const git_diff_line* line, void* out) {
  std::string& text = *static_cast<std::string*>(out);
  switch (line->origin) {
    case GIT_DIFF_LINE_FILE_HDR:
    case GIT_DIFF_LINE_BINARY:
      return 0;
    case GIT_DIFF_LINE_CONTEXT:
    case GIT_DIFF_LINE_ADDITION:
    case GIT_DIFF_LINE_DELETION:
      text += line->origin;
      break;
    default:
      break;
  }
  text.append(line->content, line->content_len);
  return 0;
}

struct Hunks {
  std::string text;
  bool binary = false;
};

Result<Hunks> hunks(const std::string& a, const std::string& b, unsigned context) {
  static const int ready = git_libgit2_init();
  git_diff_options options;
  if (ready < 0 || git_diff_options_init(&options, GIT_DIFF_OPTIONS_VERSION) != 0)
    return fail(ENOTSUP, "libgit2");
  options.context_lines = context;
  git_patch* made = nullptr;
  if (git_patch_from_buffers(&made, a.data(), a.size(), "a", b.data(), b.size(), "b", &options) != 0)
    return fail(ENOMEM, "libgit2");
  const std::unique_ptr<git_patch, decltype(&git_patch_free)> patch{made, git_patch_free};
  Hunks h;
  h.binary = (git_patch_get_delta(made)->flags & GIT_DIFF_FLAG_BINARY) != 0;
  if (git_patch_print(made, append_line, &h.text) != 0) return fail(ENOMEM, "libgit2");
  return h;
}

}  // namespace

Result<std::string> file_patch(const std::optional<TextSide>& a, const std::optional<TextSide>& b,
                               unsigned context) {
  // A file that became a link, or the other way: gone and come.
  if (a && b && (a->mode & S_IFMT) != (b->mode & S_IFMT)) {
    INDRA_LET(std::string gone, file_patch(a, std::nullopt, context));
    INDRA_LET(const std::string come, file_patch(std::nullopt, b, context));
    return gone += come;
  }
  const std::string from = quoted("a/", a ? a->path : b->path), to = quoted("b/", b ? b->path : a->path);
  std::string out = fmt::format("diff --git {} {}\n", from, to);
  if (!a) out += fmt::format("new file mode {:o}\n", git_mode(b->mode));
  if (!b) out += fmt::format("deleted file mode {:o}\n", git_mode(a->mode));
  if (a && b && git_mode(a->mode) != git_mode(b->mode))
    out += fmt::format("old mode {:o}\nnew mode {:o}\n", git_mode(a->mode), git_mode(b->mode));
  if (a && b && a->path != b->path)
    out += fmt::format("{}rename from {}\nrename to {}\n",
                       a->content == b->content && a->whole && b->whole ? "similarity index 100%\n" : "",
                       quoted("", a->path), quoted("", b->path));
  const auto none = std::string{"/dev/null"};
  if ((a && !a->whole) || (b && !b->whole))
    return out += fmt::format("Files {} and {} differ\n", a ? from : none, b ? to : none);
  INDRA_LET(const Hunks h, hunks(a ? a->content : "", b ? b->content : "", context));
  if (h.binary) return out += fmt::format("Binary files {} and {} differ\n", a ? from : none, b ? to : none);
  if (!h.text.empty())
    out +=
        (a ? marked("---", from) : "--- /dev/null\n") + (b ? marked("+++", to) : "+++ /dev/null\n") + h.text;
  return out;
}

}  // namespace indra::cli
