// Rows of `changes` as the writer's connection and readers of the feed both see them.
#pragma once
#include "tree/tree.h"

namespace indra {

/// The name of a number in changes.op, "?" for one that is not known.
[[nodiscard]] const char* op_name(int op);

/// ?1 after which seq, ?2 how many.
#define INDRA_CHANGES_AFTER                                                                            \
  "SELECT c.seq, c.branch, c.op, c.node, c.parent, c.name, c.time, c.extra, a.uid, a.pid, a.program, " \
  "a.front_end, (SELECT line FROM nodes n WHERE n.node = c.node AND n.branch = c.branch)"              \
  " FROM changes c LEFT JOIN actors a ON a.id = c.actor WHERE c.seq > ?1 ORDER BY c.seq LIMIT ?2"
[[nodiscard]] Tree::ChangeRow read_change(const Statement&);

}  // namespace indra
