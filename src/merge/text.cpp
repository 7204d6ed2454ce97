#include "merge/text.h"

#include <git2.h>

#include <algorithm>
#include <cerrno>

namespace indra {
namespace {

constexpr std::size_t kLook = 8000;  // git's: a NUL in the first 8,000 bytes says that it is no text

bool is_text(ByteView b) {
  const ByteView head = b.first(std::min(b.size(), kLook));
  return b.size() <= kLargestText && std::find(head.begin(), head.end(), std::byte{0}) == head.end();
}

bool equal(ByteView a, ByteView b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

struct Library {
  Library() { git_libgit2_init(); }
  ~Library() { git_libgit2_shutdown(); }
};

git_merge_file_input input(ByteView b) {
  git_merge_file_input in;
  git_merge_file_input_init(&in, GIT_MERGE_FILE_INPUT_VERSION);
  in.ptr = reinterpret_cast<const char*>(b.data());
  in.size = b.size();
  return in;
}

}  // namespace

Result<MergedText> merge_texts(std::optional<ByteView> base, ByteView target, ByteView source,
                               const TextLabels& labels, bool markers) {
  if (equal(target, source)) return MergedText{TextVerdict::same, {}};
  if (base && equal(*base, source)) return MergedText{TextVerdict::target, {}};
  if (base && equal(*base, target)) return MergedText{TextVerdict::source, {}};
  if (!is_text(target) || !is_text(source) || (base && !is_text(*base)))
    return MergedText{TextVerdict::overlap, {}};

  static const Library library;
  const git_merge_file_input b = input(base.value_or(ByteView{})), t = input(target), s = input(source);
  git_merge_file_options options;
  git_merge_file_options_init(&options, GIT_MERGE_FILE_OPTIONS_VERSION);
  options.ancestor_label = labels.base.c_str();
  options.our_label = labels.target.c_str();
  options.their_label = labels.source.c_str();
  git_merge_file_result result{};
  if (const int rc = git_merge_file(&result, &b, &t, &s, &options); rc != 0) {
    const git_error* e = git_error_last();
    return fail(EIO, std::string{"merging text: "} + (e != nullptr ? e->message : "?"));
  }
  MergedText out;
  if (result.automergeable != 0 || markers) {
    const auto* p = reinterpret_cast<const std::byte*>(result.ptr);
    if (result.len != 0) out.bytes.assign(p, p + result.len);
  }
  out.verdict = result.automergeable != 0 ? TextVerdict::merged
                : markers                 ? TextVerdict::marked
                                          : TextVerdict::overlap;
  git_merge_file_result_free(&result);
  return out;
}

}  // namespace indra
