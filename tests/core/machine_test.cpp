#include "core/machine.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "checkpoint/support.h"

namespace tessera {
namespace {

using testing::TemporaryDirectory;

constexpr const char* kV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

// A machine with 8,000,000 kB free, seen from a cgroup.
struct FakeMachine : TemporaryDirectory {
  FakeMachine(std::string_view mounts, std::string_view cgroup) {
    write("proc/meminfo", "MemTotal:  16000000 kB\nMemFree: 1000000 kB\nMemAvailable:    8000000 kB\n");
    write("proc/self/mountinfo", mounts);
    write("proc/self/cgroup", cgroup);
  }
  void limit_v2(const std::string& group, std::string_view limit, std::string_view used, std::string_view inactive) const {
    const std::string folder = "sys/fs/cgroup" + group;
    write(folder + "/memory.max", limit);
    write(folder + "/memory.current", used);
    write(folder + "/memory.stat", "anon 5\nfile 7\ninactive_anon 11\ninactive_file " + std::string(inactive) + "\nactive_file 13\n");
  }
};

int processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  return CPU_COUNT(&set);
}

TEST(Machine, without_a_cgroup_nine_tenths_of_what_is_free_may_be_taken) {
  const FakeMachine machine("", "");
  EXPECT_EQ(machine_memory(machine.path()).bytes, 8'000'000'000u / 10 * 9 * 1024 / 1000);
  EXPECT_EQ(machine_memory(machine.path()).limit, "");
  EXPECT_EQ(available_threads(machine.path()), processors());
}

TEST(Machine, a_cgroup_gives_its_limit_less_what_it_uses_but_for_inactive_files) {
  const FakeMachine machine(kV2, "0::/a/b\n");
  machine.limit_v2("/a/b", "1000000000\n", "700000000\n", "400000000");
  const Memory memory = machine_memory(machine.path());
  EXPECT_EQ(memory.bytes, 630'000'000u);
  EXPECT_EQ(size_text(memory), "630.0 MB (the cgroup /a/b is limited to 1.00 GB by memory.max)");
}

TEST(Machine, the_least_of_all_cgroups_above_holds) {
  const FakeMachine machine(kV2, "0::/a/b\n");
  machine.limit_v2("/a/b", "max\n", "700000000\n", "0");
  machine.limit_v2("/a", "2000000000\n", "1500000000\n", "0");
  machine.limit_v2("", "3000000000\n", "1600000000\n", "0");
  EXPECT_EQ(machine_memory(machine.path()).bytes, 450'000'000u);
  EXPECT_EQ(machine_memory(machine.path()).limit, "the cgroup /a is limited to 2.00 GB by memory.max");
  machine.limit_v2("/a", "900000000000\n", "1500000000\n", "0");
  EXPECT_EQ(machine_memory(machine.path()).limit, "the cgroup / is limited to 3.00 GB by memory.max");
  machine.limit_v2("", "900000000000\n", "1500000000\n", "0");
  EXPECT_EQ(machine_memory(machine.path()).limit, "");  // the machine has less
}

TEST(Machine, a_cgroup_that_is_full_has_nothing) {
  const FakeMachine machine(kV2, "0::/\n");
  machine.limit_v2("", "1000000\n", "2000000\n", "0");
  EXPECT_EQ(machine_memory(machine.path()).bytes, 0u);
}

// In a container the mount's top is the container's own group, whose path in the hierarchy /proc/self/cgroup tells whole.
TEST(Machine, version_1_is_read_below_the_mount_s_top) {
  const FakeMachine machine(
      "41 40 0:31 /docker/X /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
      "42 40 0:32 /docker/X /sys/fs/cgroup/cpu,cpuacct ro shared:7 master:3 - cgroup cgroup rw,cpu,cpuacct\n"
      "43 40 0:33 /docker/Y /other ro - cgroup cgroup rw,memory\n",
      "9:memory:/docker/X/inner\n8:cpuset:/\n4:cpu,cpuacct:/docker/X\n0::/\n");
  for (const auto& [folder, limit] : {std::pair("memory", "1500000000"), {"memory/inner", "9223372036854771712"}}) {
    const std::string place = std::string("sys/fs/cgroup/") + folder;
    machine.write(place + "/memory.limit_in_bytes", limit);
    machine.write(place + "/memory.usage_in_bytes", "1200000000");
    machine.write(place + "/memory.stat", "inactive_file 1\ntotal_inactive_file 200000000\n");
  }
  machine.write("other/memory.limit_in_bytes", "1");
  EXPECT_EQ(machine_memory(machine.path()).bytes, 450'000'000u);
  EXPECT_EQ(machine_memory(machine.path()).limit, "the cgroup /docker/X is limited to 1.50 GB by memory.limit_in_bytes");
  machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(available_threads(machine.path()), processors());
  machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(available_threads(machine.path()), 1);
}

TEST(Machine, threads_are_the_least_quota_rounded_up_and_no_more_than_processors) {
  const FakeMachine machine(kV2, "0::/a/b\n");
  const auto threads = [&](std::string_view quota) {
    machine.write("sys/fs/cgroup/a/cpu.max", quota);
    return available_threads(machine.path());
  };
  machine.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(threads("100000 100000\n"), 1);
  EXPECT_EQ(threads("1000 100000\n"), 1);
  EXPECT_EQ(threads("100001 100000\n"), std::min(2, processors()));
  EXPECT_EQ(threads("6400000 50000\n"), std::min(128, processors()));
  EXPECT_EQ(threads("max 100000\n"), processors());
}

TEST(Machine, sizes_have_one_unit_a_thousand_at_a_time) {
  EXPECT_EQ(size_text(0), "0.0 MB");
  EXPECT_EQ(size_text(536'196'352), "536.2 MB");
  EXPECT_EQ(size_text(999'900'000), "999.9 MB");
  EXPECT_EQ(size_text(1'000'000'000), "1.00 GB");
  EXPECT_EQ(size_text(12'872'318'208), "12.87 GB");
}

}  // namespace
}  // namespace tessera
