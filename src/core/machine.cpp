#include "core/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "core/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> number(std::istream& text) {
  int64_t value = 0;
  return text >> value ? std::optional(value) : std::nullopt;  // none: "max"
}

std::optional<int64_t> number(const fs::path& file) {
  std::ifstream text(file);
  return number(text);
}

// Of a file of lines "FIELD NUMBER ...".
std::optional<int64_t> field_of(const fs::path& path, std::string_view field) {
  std::ifstream file(path);
  for (std::string key; file >> key; file.ignore(1000, '\n'))
    if (key == field) return number(file);
  return std::nullopt;
}

bool has(std::string list, std::string_view item) { return message(',', list, ',').find(message(',', item, ',')) != std::string::npos; }

// The path of this process's cgroup in the hierarchy of a controller; "": in version 2's.
std::optional<fs::path> own_group(const fs::path& root, std::string_view controller) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/a/b", "0::/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (has(line.substr(first + 1, second - first - 1), controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

struct Group {
  fs::path folder;
  std::string name;  // its path in the hierarchy
};

// The process's cgroup and those above it, as far as they are mounted.
std::vector<Group> groups(const fs::path& root, std::string_view controller) {
  std::vector<Group> all;
  const std::optional<fs::path> own = own_group(root, controller);
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line;
       own && std::getline(file, line);) {  // "31 23 0:28 /top /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory"
    std::istringstream words(line);
    std::string skipped, top, place, type, options;
    words >> skipped >> skipped >> skipped >> top >> place;
    while (words >> skipped && skipped != "-") {
    }
    words >> type >> skipped >> options;
    if (type != (controller.empty() ? "cgroup2" : "cgroup") || !(controller.empty() || has(options, controller))) continue;
    fs::path below = own->lexically_relative(top);
    if (below.empty() || *below.begin() == "..") continue;  // a mount of other groups
    if (below == ".") below.clear();
    for (fs::path group = *own;; group = group.parent_path(), below = below.parent_path()) {
      all.push_back({root / fs::path(place).relative_path() / below, group.string()});
      if (below.empty()) break;
    }
  }
  return all;
}

struct MemoryFiles {
  const char *controller, *limit, *usage, *inactive;
};
constexpr MemoryFiles kMemoryFiles[] = {{"", "memory.max", "memory.current", "inactive_file"},
                                        {"memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}};

}  // namespace

std::optional<int64_t> kernel_bytes(const fs::path& file, std::string_view field) {
  const std::optional<int64_t> kilobytes = field_of(file, field);
  return kilobytes ? std::optional(*kilobytes * 1024) : std::nullopt;
}

Memory machine_memory(const fs::path& root) {
  int64_t free = kernel_bytes(root / "proc/meminfo", "MemAvailable:").value_or(::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE));
  std::string why;
  for (const MemoryFiles& files : kMemoryFiles)
    for (const Group& group : groups(root, files.controller)) {
      const std::optional<int64_t> limit = number(group.folder / files.limit);
      if (!limit) continue;
      const int64_t used =
          number(group.folder / files.usage).value_or(0) - field_of(group.folder / "memory.stat", files.inactive).value_or(0);
      const int64_t left = std::max<int64_t>(*limit - std::max<int64_t>(used, 0), 0);
      if (left >= free) continue;
      free = left;
      why = message("the cgroup ", group.name, " is limited to ", size_text(static_cast<size_t>(*limit)), " by ", files.limit);
    }
  return {static_cast<size_t>(free / 10 * 9), why};
}

int available_threads(const fs::path& root) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int64_t threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : std::thread::hardware_concurrency();
  const auto limit = [&](std::optional<int64_t> quota, std::optional<int64_t> period) {  // microseconds; a quota of -1 is none
    if (quota.value_or(0) > 0 && period.value_or(0) > 0) threads = std::min(threads, (*quota - 1) / *period + 1);
  };
  for (const Group& group : groups(root, "")) {
    std::ifstream file(group.folder / "cpu.max");  // "150000 100000", or "max 100000"
    const std::optional<int64_t> quota = number(file);
    limit(quota, number(file));
  }
  for (const Group& group : groups(root, "cpu"))
    limit(number(group.folder / "cpu.cfs_quota_us"), number(group.folder / "cpu.cfs_period_us"));
  return static_cast<int>(std::max<int64_t>(threads, 1));
}

std::string size_text(size_t bytes) {
  char text[40];
  const bool large = bytes >= 1'000'000'000;
  std::snprintf(text, sizeof text, large ? "%.2f GB" : "%.1f MB", static_cast<double>(bytes) / (large ? 1e9 : 1e6));
  return text;
}

std::string size_text(const Memory& memory) {
  return size_text(memory.bytes) + (memory.limit.empty() ? "" : message(" (", memory.limit, ')'));
}

}  // namespace tessera
