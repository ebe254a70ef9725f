#include "core/output_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

class OutputFileTest : public testing::Test {
 protected:
  OutputFileTest() { std::filesystem::create_directories(folder_); }
  ~OutputFileTest() override { std::filesystem::remove_all(folder_); }
  auto files() const { return std::distance(std::filesystem::directory_iterator(folder_), {}); }
  const std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) / "tessera_output_file";
};

TEST_F(OutputFileTest, appears_whole_when_finished) {
  const std::string path = folder_ / "out.txt";
  OutputFile file(path);
  file.write("one ");
  file.write("two");
  EXPECT_FALSE(std::filesystem::exists(path));
  file.finish();
  EXPECT_EQ(read_file(path, 100), "one two");
  EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, leaves_a_device_what_it_is) {
  const std::filesystem::path link = folder_ / "device";  // not the device itself: who may, would lose it
  std::filesystem::create_symlink("/dev/null", link);
  OutputFile file(link);
  file.write("gone");
  file.finish();
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(std::filesystem::is_character_file(link));
  EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, leaves_the_old_file_and_nothing_else_when_not_finished) {
  const std::string path = folder_ / "out.txt";
  {
    OutputFile file(path);
    file.write("old");
    file.finish();
  }
  {
    OutputFile file(path);
    file.write("half");
  }
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, a_place_that_cannot_be_written_is_named) {
  EXPECT_THROW(OutputFile(folder_ / "no" / "such" / "folder"), FileError);
  EXPECT_THROW(OutputFile("/proc/nothing"), FileError);
}

}  // namespace
}  // namespace tessera
