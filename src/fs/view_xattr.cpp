// Extended attributes: stored ones, and those of ours that are computed (design section 10).
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "fs/internal/fs_impl.h"

namespace indra {
namespace {

constexpr std::string_view kOurs = "user.indra.";
constexpr std::string_view kVersions = "user.indra.versions";

Bytes bytes_of(std::string_view s) {
  const ByteView v = as_view(s);
  return {v.begin(), v.end()};
}

Result<void> check_name(std::string_view name) {
  if (name.empty() || name.size() > 255) return fail(ERANGE);
  for (const std::string_view space : {"user.", "trusted.", "security."})
    if (name.starts_with(space) && name.size() > space.size()) return {};
  return fail(EOPNOTSUPP);
}

}  // namespace

/// Absent: not one of ours. They describe the last published version and are not listed.
Result<std::optional<Bytes>> ViewImpl::computed_xattr(NodeId node, std::string_view name) {
  if (!name.starts_with(kOurs)) return std::nullopt;
  INDRA_LET(const NodeRow row, fs_.writer().read([&](Tx& tx) { return fs_.tree().node(tx, chain_, node); }));
  const std::string_view what = name.substr(kOurs.size());
  if (what == "hash" || what == "artifact_id") {
    if (!S_ISREG(row.mode)) return fail(ENODATA);
    if (!row.blob && row.size == 0) return bytes_of(BlobHash::of({}).hex());
    auto hash = fs_.store().hash(row.blob, false);
    if (!hash && hash.error().code == std::errc::resource_unavailable_try_again) return bytes_of("pending");
    if (!hash) return fail(hash.error());
    return bytes_of(hash->hex());
  }
  if (what == "doc_id") return bytes_of(to_hex(fs_.tree().doc_id(row.line ? row.line : row.node)));
  if (what == "version") return bytes_of(std::to_string(row.seq.raw()));
  if (what == "versions") return bytes_of((row.flags & kNoVersions) != 0 ? "off" : "on");
  return std::nullopt;
}

Result<Bytes> ViewImpl::getxattr(NodeId node, std::string_view name) {
  INDRA_LET(auto computed, computed_xattr(node, name));
  if (computed) return std::move(*computed);
  INDRA_TRY(check_name(name));
  INDRA_LET(auto value, fs_.writer().read([&](Tx& tx) -> Result<std::optional<Bytes>> {
    INDRA_LET(const NodeRow row, fs_.tree().node(tx, chain_, node));
    if ((row.flags & kHasXattrs) == 0) return std::nullopt;
    return fs_.tree().xattr(tx, chain_, node, name);
  }));
  if (!value) return fail(ENODATA);
  return std::move(*value);
}

Result<std::vector<std::string>> ViewImpl::listxattr(NodeId node) {
  return fs_.writer().read([&](Tx& tx) -> Result<std::vector<std::string>> {
    INDRA_LET(const NodeRow row, fs_.tree().node(tx, chain_, node));
    if ((row.flags & kHasXattrs) == 0) return std::vector<std::string>{};
    return fs_.tree().xattrs(tx, chain_, node);
  });
}

Result<void> ViewImpl::setxattr(const Caller& c, NodeId node, std::string_view name, ByteView value,
                                int flags) {
  INDRA_TRY(check_writable(value.size()));
  INDRA_TRY(check_name(name));
  if (value.size() > XATTR_SIZE_MAX) return fail(E2BIG);
  const Who w = who(c);
  if (name == kVersions) {
    const std::string_view text = as_text(value);
    if (text != "on" && text != "off") return fail(EINVAL);
    INDRA_TRY(fs_.writer().mutate([&](Tx& tx) -> Result<void> {
      INDRA_LET(const NodeRow row, fs_.tree().node(tx, chain_, node));
      const std::uint32_t f =
          text == "off" ? row.flags | kNoVersions : row.flags & ~static_cast<std::uint32_t>(kNoVersions);
      return fs_.tree().set_flags(tx, w, chain_, node, f);
    }));
  } else {
    if (name.starts_with(kOurs)) {
      static constexpr std::array computed{"hash", "artifact_id", "doc_id", "version", "heat", "steward"};
      if (std::find(computed.begin(), computed.end(), name.substr(kOurs.size())) != computed.end())
        return fail(EPERM);
    }
    INDRA_TRY(fs_.writer().mutate(
        [&](Tx& tx) { return fs_.tree().set_xattr(tx, w, chain_, node, name, value, flags); }));
  }
  fs_.poke();
  fs_.notify(branch(), this, Change::attributes, node);
  fs_.did(branch(), this, {.kind = Deed::attributes, .node = node});
  return {};
}

Result<void> ViewImpl::removexattr(const Caller& c, NodeId node, std::string_view name) {
  INDRA_TRY(check_writable(0));
  INDRA_TRY(check_name(name));
  INDRA_LET(const auto computed, computed_xattr(node, name));
  if (computed) return fail(EPERM);
  const Who w = who(c);
  INDRA_TRY(fs_.writer().mutate(
      [&](Tx& tx) { return fs_.tree().set_xattr(tx, w, chain_, node, name, std::nullopt, 0); }));
  fs_.poke();
  fs_.notify(branch(), this, Change::attributes, node);
  fs_.did(branch(), this, {.kind = Deed::attributes, .node = node});
  return {};
}

}  // namespace indra
