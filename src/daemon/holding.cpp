// hold: content stays as a reader of vault.db finds it named, until the caller is done (backup).
#include "daemon/internal/verbs.h"

namespace indra {

// {}: a json message {"held", "vault", "vault_id", "player"}, then any message of the caller, or its end,
// lets go. The answer says that it was held all along.
Result<Json> verb_hold(Call& c) {
  INDRA_LET(const FileSystem::Status status, c.fs.status());
  INDRA_LET(const std::shared_ptr<void> hold, c.fs.hold_content());
  Message m;
  m.head = {{"held", true}, {"vault", status.dir}, {"vault_id", status.vault_id}, {"player", status.player}};
  INDRA_TRY(c.io.send(std::move(m)));
  INDRA_LET(const auto done, c.io.receive());
  if (!done) return fail(EPIPE, "the caller is gone");
  return Json::object();
}

}  // namespace indra
