#include "core/kept_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "core/digest.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class KeptFileTest : public testing::Test {
 protected:
  ~KeptFileTest() override { std::filesystem::remove_all(folder_); }

  void write() const {
    KeptFileWriter writer(path_, "identity", 0);
    writer.add("a", bytes_of("one"), KeptFileWriter::Piece::checked);
    writer.add("empty", {}, KeptFileWriter::Piece::checked);
    writer.add("b", bytes_of(std::string(5000, 'x')), KeptFileWriter::Piece::unchecked);
    writer.finish();
  }
  std::string file() const { return read_file(path_.string(), 1 << 20); }

  const std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) / "tessera_kept_file";
  const std::filesystem::path path_ = folder_ / "deeper" / "file.packed";
};

TEST_F(KeptFileTest, gives_back_what_was_put_in_each_piece_on_a_page_of_its_own) {
  write();
  const std::string file = this->file();
  const auto packed = KeptFile::read(bytes_of(file), "identity");
  ASSERT_TRUE(packed);
  EXPECT_EQ(text_of(packed->find("a").value()), "one");
  EXPECT_EQ(text_of(packed->find("b").value()), std::string(5000, 'x'));
  EXPECT_EQ(packed->find("empty").value().size(), 0u);
  EXPECT_FALSE(packed->find("c"));
  for (const char* name : {"a", "b", "empty"}) EXPECT_EQ((packed->find(name)->data() - bytes_of(file).data()) % 4096, 0) << name;
}

TEST_F(KeptFileTest, of_another_identity_is_refused) {
  write();
  for (const std::string_view identity : {"identit", "identity ", ""}) EXPECT_FALSE(KeptFile::read(bytes_of(file()), identity));
}

TEST_F(KeptFileTest, cut_anywhere_is_refused) {
  write();
  const std::string file = this->file();
  for (size_t bytes = 0; bytes < file.size(); ++bytes) EXPECT_FALSE(KeptFile::read(bytes_of(file).first(bytes), "identity")) << bytes;
}

TEST_F(KeptFileTest, with_a_damaged_directory_is_refused) {
  write();
  const std::string file = this->file();
  const size_t directory = 3 * 4096;
  for (size_t at = directory; at < file.size(); ++at) {
    std::string damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_FALSE(KeptFile::read(bytes_of(damaged), "identity")) << at;
  }
}

TEST_F(KeptFileTest, does_not_give_a_checked_piece_that_is_damaged) {
  write();
  std::string file = this->file();
  file[2] ^= 1;
  file[4096] ^= 1;
  const auto packed = KeptFile::read(bytes_of(file), "identity");
  ASSERT_TRUE(packed);
  EXPECT_FALSE(packed->find("a"));
  EXPECT_TRUE(packed->find("b"));
}

// A file with this directory, its checksum right.
std::string with_directory(const std::string& directory) {
  std::string file(8192, 'p');
  const uint64_t trailer[] = {directory.size(), std::stoull(digest(directory).substr(0, 16), nullptr, 16), 1, 0x44454B4341505354};
  return file + directory + text_of(std::as_bytes(std::span(trailer)));
}

TEST_F(KeptFileTest, whose_directory_lies_is_refused) {
  const auto read = [](const std::string& pieces) {
    return KeptFile::read(bytes_of(with_directory(R"({"identity":"i","pieces":)" + pieces + "}")), "i").has_value();
  };
  EXPECT_TRUE(read(R"({"a":[4096,4096,""]})"));
  for (const char* pieces :
       {R"({"a":[4096,4097,""]})", R"({"a":[8192,1,""]})", R"({"a":[12288,0,""]})", R"({"a":[1,1,""]})", R"({"a":[-4096,1,""]})",
        R"({"a":[0]})", R"({"a":[0,1]})", R"({"a":[0,1,2]})", R"({"a":[4096,18446744073709551615,""]})",
        R"({"a":[18446744073709547520,4096,""]})", R"({"a":"0"})", R"({"a":[0,1.5,""]})", "[]", "0", "{"})
    EXPECT_FALSE(read(pieces)) << pieces;
  for (const char* directory : {"", "0", "[]", R"({"identity":"i"})", R"({"identity":0,"pieces":{}})", R"({"pieces":{}})"})
    EXPECT_FALSE(KeptFile::read(bytes_of(with_directory(directory)), "i")) << directory;
}

TEST_F(KeptFileTest, is_whole_or_not_there_and_ended_writers_leave_nothing) {
  std::filesystem::create_directories(path_.parent_path());
  KeptFileWriter(path_.parent_path() / "file.packed.77.tmp", "left", 0).finish();
  {
    KeptFileWriter(path_, "identity", 0).add("a", bytes_of("one"), KeptFileWriter::Piece::unchecked);
  }
  EXPECT_TRUE(std::filesystem::is_empty(path_.parent_path()));
  write();
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path_.parent_path()), {}), 1);
}

TEST_F(KeptFileTest, that_cannot_be_written_is_an_error_to_catch) {
  EXPECT_THROW(KeptFileWriter("/proc/nothing/file", "", 0), FileError);
  EXPECT_THROW(KeptFileWriter(path_, "", uint64_t{1} << 60), ResourceError);
  EXPECT_TRUE(std::filesystem::is_empty(path_.parent_path()));
}

TEST(kept_folder, is_where_the_environment_says) {
  const std::function<std::string(std::initializer_list<std::pair<const char*, const char*>>)> folder = [](auto settings) {
    for (const char* name : {"TESSERA_PACKED_CACHE", "TESSERA_CACHE", "XDG_CACHE_HOME", "HOME"}) ::unsetenv(name);
    for (const auto& [name, value] : settings) ::setenv(name, value, 1);
    return kept_folder().value_or("").string();
  };
  EXPECT_EQ(folder({{"HOME", "/h"}}), "/h/.cache/tessera/packed");
  EXPECT_EQ(folder({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}}), "/x/tessera/packed");
  EXPECT_EQ(folder({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}, {"TESSERA_CACHE", "/t"}}), "/t/packed");
  EXPECT_EQ(folder({{"HOME", "/h"}, {"TESSERA_CACHE", ""}, {"TESSERA_PACKED_CACHE", "1"}}), "/h/.cache/tessera/packed");
  EXPECT_EQ(folder({{"HOME", "/h"}, {"TESSERA_PACKED_CACHE", "0"}}), "");
  EXPECT_EQ(folder({}), "");
}

TEST(digest, is_xxh3_of_128_bits) {  // of the empty text, as xxhsum -H2 gives it
  EXPECT_EQ(digest(std::string_view()), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(digest(std::string_view("a")), digest(std::string_view("b")));
}

}  // namespace
}  // namespace tessera
