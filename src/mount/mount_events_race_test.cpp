// Deeds that come while an earlier one is being raised (docs/design/editor-events.md, E4).
#include <functional>
#include <thread>

#include "mount/internal/test_events.h"

namespace indra {
namespace {

// The next deed comes while the way to an event's directory is looked for: that is where it was before the
// deed.
TEST_F(EventsLater, E4_a_directory_goes_while_an_event_in_it_is_raised) {
  std::function<void()> next;
  std::atomic<bool> armed{false};
  const Ending ending{*this};
  views_.on_operation = [&](std::string_view op) {
    if (op == "parent_of" && armed.exchange(false)) next();
  };
  start();
  for (const char* d : {"goes", "moves", "here"}) make_dir(d);
  make_file("goes/f");
  make_file("moves/f");
  for (const char* f : {"goes/f", "moves/f"}) ASSERT_TRUE(exists(f));
  watch("", "top");
  watch("goes", "goes");
  watch("moves", "moves");
  watch("here", "here");
  next = [&] { remove_dir("goes"); };
  armed = true;
  rename("goes/f", "here/1");
  EXPECT_EQ(heard(), (Heard{"goes: MOVED_FROM f #1", "here: MOVED_TO 1 #1", "goes: DELETE_SELF",
                            "goes: IGNORED", "top: DELETE|ISDIR goes"}));
  EXPECT_FALSE(armed);
  next = [&] { rename("moves", "moved"); };
  armed = true;
  rename("moves/f", "here/2");
  EXPECT_EQ(heard(), (Heard{"moves: MOVED_FROM f #1", "here: MOVED_TO 2 #1", "top: MOVED_FROM|ISDIR moves #2",
                            "top: MOVED_TO|ISDIR moved #2", "moves: MOVE_SELF"}));
  EXPECT_FALSE(armed);
  EXPECT_EQ(figures().lost, 0u);
}

// The same while the process looks a name up.
TEST_F(EventsLater, E4_a_name_goes_while_it_is_looked_up_for_an_event) {
  std::function<void()> next;
  std::atomic<bool> armed{false};
  const auto here = std::this_thread::get_id();
  const Ending ending{*this};
  views_.on_operation = [&](std::string_view op) {
    if (op == "lookup" && std::this_thread::get_id() != here && armed.exchange(false)) next();
  };
  start();
  make_file("f");
  watch("", "top");
  next = [&] { rename("f", "g"); };
  SetAttr mode;
  mode.mode = 0600;
  const NodeId f = node("f");
  armed = true;
  ASSERT_TRUE(outside().setattr({}, f, mode));
  EXPECT_EQ(heard(), (Heard{"top: ATTRIB f", "top: MOVED_FROM f #1", "top: MOVED_TO g #1"}));
  EXPECT_FALSE(armed);
  EXPECT_EQ(figures().lost, 0u);
  EXPECT_TRUE(exists("g") && !exists("f"));
}

// A name goes to where the kernel does not look before the kernel was told of it: it knows it there for as
// long as it was to know the name. What comes from there next is another node.
TEST_F(EventsLater, E4_what_was_put_aside_is_not_taken_for_the_next) {
  NotifierHeld held{*this, "slow"};
  start();
  for (const char* d : {"d", "elsewhere", "slow"}) make_dir(d);
  make_file("d/x");
  make_file("elsewhere/y");
  write("d/x", "x");
  write("elsewhere/y", "of y");
  watch("d", "d");
  ASSERT_EQ(read_file(at("d/x")), "x");
  (void)ear_.heard();
  settle();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(exists("d/x") && exists("slow"));  // kept now
  held.hold();
  make_file("slow/f");
  rename("d/x", "elsewhere/x");
  Heard all;
  ASSERT_TRUE(soon([&] {
    for (auto& h : ear_.heard()) all.push_back(std::move(h));
    return !all.empty();
  }));
  EXPECT_EQ(all, (Heard{"d: MOVED_FROM x #1"}));
  held.let_go();
  settle();
  mount_->hold_events(true);
  rename("elsewhere/y", "d/y");
  ASSERT_TRUE(mount_->caught_up(std::chrono::seconds{60}));
  mount_->hold_events(false);
  EXPECT_EQ(heard(), (Heard{"d: MOVED_TO y #1"}));
  EXPECT_EQ(read_file(at("d/y")), "of y");
  EXPECT_EQ(figures().lost, 0u);
}

}  // namespace
}  // namespace indra
