#pragma once
// What the system lets this process take: the machine's, or less where its affinity or a cgroup, of version 1 or 2, says so.
// `root`: the folder in which /proc and /sys are found.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tessera {

struct Memory {
  size_t bytes;            // that may be taken
  std::string limit = {};  // why they are fewer than the machine has: "the cgroup /a/b is limited to 1.07 GB by memory.max"
};

// What can be had without swapping, less a tenth, which is left to what nobody reckons with. Of a cgroup's memory that of mapped files,
// which the system takes back when it is needed, counts as free.
Memory machine_memory(const std::filesystem::path& root = "/");

// Processors' worth of threads, at least 1.
int available_threads(const std::filesystem::path& root = "/");

// A field of a file under /proc that counts in kB ("MemAvailable:" of /proc/meminfo), in bytes; nullopt if it is not there.
std::optional<int64_t> kernel_bytes(const std::filesystem::path& file, std::string_view field);

// As sizes are shown to people: "536.2 MB", from 10^9 bytes on "12.87 GB".
std::string size_text(size_t bytes);
std::string size_text(const Memory& memory);  // with its limit

}  // namespace tessera
