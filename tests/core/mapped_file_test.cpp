#include "core/mapped_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;
using testing::TemporaryDirectory;

constexpr size_t kBytes = 1 << 20;

int sum(std::span<const std::byte> bytes) {
  int total = 0;
  for (const std::byte byte : bytes) total += std::to_integer<int>(byte);
  return total;
}

void age(const std::string& path) {
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
}

struct Fixture {
  TemporaryDirectory directory;
  std::string path = directory.write("file", std::string(kBytes, '\1'));
  Fixture() { age(path); }
};

TEST(mapped_file, shows_the_bytes_of_a_file_and_gives_pages_back_without_losing_them) {
  const Fixture f;
  const MappedFile file(f.path);
  EXPECT_EQ(sum(file.bytes()), static_cast<int>(kBytes));
  file.release(file.bytes().subspan(5, 100'000));
  EXPECT_EQ(sum(file.bytes()), static_cast<int>(kBytes));
  EXPECT_EQ(error_of([&] { file.expect_unchanged(); }), "");
}

// Bytes of the mapping at `begin` that lie in huge pages, as the system tells.
size_t bytes_in_huge_pages(const void* begin) {
  std::ifstream maps("/proc/self/smaps");
  const auto address = reinterpret_cast<uintptr_t>(begin);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0, last = 0, kilobytes = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2) inside = first <= address && address < last;
    if (inside && std::sscanf(line.c_str(), "FilePmdMapped: %lu", &kilobytes) == 1) return kilobytes * 1024;
  }
  return 0;
}

TEST(mapped_file, comes_from_the_disk_in_huge_pages_where_the_system_has_them) {
  constexpr size_t size = 16 << 20;
  const TemporaryDirectory directory;
  const auto on_disk_only = [&](const char* name) {
    const std::string path = directory.write(name, std::string(size, '\1'));
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_TRUE(fd >= 0 && ::fsync(fd) == 0 && ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    return std::pair(path, fd);
  };
  const auto [asked, asked_fd] = on_disk_only("asked");
  void* const asking = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, asked_fd, 0);
  ASSERT_NE(asking, MAP_FAILED);
  ::madvise(asking, size, MADV_HUGEPAGE);
  EXPECT_EQ(sum({static_cast<const std::byte*>(asking), size}), static_cast<int>(size));
  const size_t had = bytes_in_huge_pages(asking);
  ::munmap(asking, size);
  ::close(asked_fd);

  const auto [path, fd] = on_disk_only("ours");
  ::close(fd);
  const MappedFile file(path);
  file.prefer_huge_pages();
  EXPECT_EQ(sum(file.bytes()), static_cast<int>(size));
  const size_t have = bytes_in_huge_pages(file.bytes().data());
  RecordProperty("bytes_in_huge_pages", std::to_string(have));
  EXPECT_GE(have, had / 2);  // the system may be short of them
}

TEST(mapped_file, refuses_what_is_not_a_readable_regular_file_without_blocking) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  std::filesystem::create_symlink("loop", directory / "loop");
  std::filesystem::create_symlink("nowhere", directory / "dangling");
  std::filesystem::create_symlink("one", directory / "link");
  directory.write("empty", "");
  directory.write("one", "1");
  const auto error = [](const std::string& path) { return error_of([&] { MappedFile{path}; }); };
  EXPECT_TRUE(holds(error(directory / "fifo"), "fifo: is not a regular file"));
  EXPECT_TRUE(holds(error(directory.path().string()), "is not a regular file"));
  EXPECT_TRUE(holds(error("/dev/zero"), "/dev/zero: is not a regular file"));
  EXPECT_TRUE(holds(error(directory / "loop"), "loop: cannot be opened: "));
  EXPECT_TRUE(holds(error(directory / "dangling"), "dangling: cannot be opened: No such file"));
  EXPECT_TRUE(holds(error(directory / "empty"), "empty: is empty"));
  EXPECT_EQ(error(directory / "link"), "");

  // Root may read everything, so it puts on another user's hat.
  const bool root = ::geteuid() == 0;
  ::chmod((directory / "one").c_str(), 0);
  ASSERT_EQ(root ? ::seteuid(65534) : 0, 0);
  const std::string unreadable = error(directory / "one");
  ASSERT_EQ(root ? ::seteuid(0) : 0, 0);
  EXPECT_TRUE(holds(unreadable, "one: cannot be opened: Permission denied"));
}

TEST(mapped_file, a_file_cut_while_threads_read_it_ends_in_an_error) {
  for (const off_t left : {off_t{0}, off_t{5000}, off_t{kBytes - 4096}, off_t{kBytes - 1}}) {
    SCOPED_TRACE(left);
    const Fixture f;
    const MappedFile file(f.path);
    file.expect_unchanged();
    ASSERT_EQ(::truncate(f.path.c_str(), left), 0);
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) readers.emplace_back([&] { EXPECT_LT(sum(file.bytes()), static_cast<int>(kBytes)); });
    for (std::thread& reader : readers) reader.join();
    EXPECT_TRUE(holds(error_of([&] { file.expect_unchanged(); }), "file: "));
  }
}

TEST(mapped_file, a_file_cut_and_restored_between_reads_ends_in_an_error) {
  const Fixture f;
  const MappedFile file(f.path);
  ASSERT_EQ(::truncate(f.path.c_str(), 0), 0);
  ASSERT_EQ(sum(file.bytes()), 0);
  f.directory.write("file", std::string(kBytes, '\1'));
  EXPECT_TRUE(holds(error_of([&] { file.expect_unchanged(); }), "was cut short or could not be read"));
}

TEST(mapped_file, a_file_rewritten_or_grown_in_place_ends_in_an_error) {
  const Fixture f;
  const MappedFile file(f.path);
  const int fd = ::open(f.path.c_str(), O_WRONLY);
  ASSERT_EQ(::pwrite(fd, "x", 1, 100), 1);
  ::close(fd);
  EXPECT_TRUE(holds(error_of([&] { file.expect_unchanged(); }), "was written to while it was in use"));
  ASSERT_EQ(::truncate(f.path.c_str(), kBytes + 1), 0);
  EXPECT_TRUE(holds(error_of([&] { file.expect_unchanged(); }), "had 1048576 bytes when it was opened and now has 1048577"));
}

TEST(mapped_file, a_file_replaced_by_rename_or_deleted_stays_what_was_opened) {
  const Fixture f;
  const MappedFile file(f.path);
  std::filesystem::rename(f.directory.write("other", "short"), f.path);
  EXPECT_EQ(sum(file.bytes()), static_cast<int>(kBytes));
  EXPECT_EQ(error_of([&] { file.expect_unchanged(); }), "");
}

TEST(mapped_file, more_files_than_can_be_guarded_are_a_resource_error_and_freed_ones_make_room) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("file", "1");
  std::vector<std::byte> memory(1);
  std::vector<std::unique_ptr<BusGuard>> guards;
  const std::string error = error_of<ResourceError>([&] {
    for (size_t i = 0; i <= BusGuard::kMostGuards; ++i) guards.push_back(std::make_unique<BusGuard>(memory.data(), memory.size()));
  });
  EXPECT_TRUE(holds(error, "more than 1024 checkpoint files"));
  EXPECT_NE(error_of<ResourceError>([&] { MappedFile{path}; }), "");
  guards.pop_back();
  EXPECT_EQ(error_of<ResourceError>([&] { MappedFile{path}; }), "");
}

// Reads a page of a mapping that no guard stands over and whose file was cut. Deletes the directory: nobody else does, after death.
void read_an_unguarded_cut_mapping(const TemporaryDirectory& directory) {
  const int fd = ::open(directory.write("other", std::string(4096, 'x')).c_str(), O_RDWR);
  auto* const mapping = static_cast<volatile char*>(::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0));
  if (::ftruncate(fd, 0) != 0) return;
  std::filesystem::remove_all(directory.path());
  static_cast<void>(mapping[0]);
}

TEST(mapped_file_death, a_bus_error_elsewhere_still_kills) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const Fixture f;
  const MappedFile file(f.path);
  EXPECT_DEATH(read_an_unguarded_cut_mapping(f.directory), "");
}

TEST(mapped_file_death, a_bus_error_elsewhere_goes_to_the_handler_that_stood_before) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const Fixture f;
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, [](int) { ::_exit(42); });
        const MappedFile file(f.path);
        read_an_unguarded_cut_mapping(f.directory);
      },
      ::testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace tessera
