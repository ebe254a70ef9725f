#include "ttnn/watchdog.h"

#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tessera::ttnn {
namespace {

using namespace std::chrono_literals;

TEST(Watchdog, names_the_oldest_call_that_is_late_and_once) {
  std::promise<std::string> told;
  std::vector<std::string> names;
  Watchdog watchdog(1ms, [&](const char* name) {
    names.push_back(name);
    if (names.size() == 1) told.set_value(name);
  });
  const Watchdog::Call first(&watchdog, "first");
  const Watchdog::Call second(&watchdog, "second");
  EXPECT_EQ(told.get_future().get(), "first");
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(names.size(), 1u);
}

TEST(Watchdog, forgets_a_call_that_has_ended_and_sees_the_one_behind_it) {
  std::promise<std::string> told;
  Watchdog watchdog(300ms, [&](const char* name) { told.set_value(name); });
  auto first = std::make_optional<Watchdog::Call>(&watchdog, "first");
  const Watchdog::Call second(&watchdog, "second");
  first.reset();
  EXPECT_EQ(told.get_future().get(), "second");
}

TEST(Watchdog, says_nothing_of_calls_that_end_in_time) {
  bool told = false;
  {
    Watchdog watchdog(4s, [&](const char*) { told = true; });
    const Watchdog::Call none(nullptr, "none");
    const Watchdog::Call call(&watchdog, "call");
    std::this_thread::sleep_for(800ms);  // the watchdog has looked
  }
  EXPECT_FALSE(told);
}

}  // namespace
}  // namespace tessera::ttnn
