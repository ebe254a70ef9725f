// A tokenizer whose tables are kept in a file: the same ids with it and without, whatever became of the file.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/kept_file.h"
#include "small_tokenizer.h"
#include "text/bpe.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr int kTokens = 80'000;  // enough for a file that is worth keeping

// Tokens of up to four letters with the merges that make them, and some for bytes.
Json large_tokenizer() {
  Json json = small_tokenizer();
  Json vocab = Json::object(), merges = Json::array();
  std::vector<std::string> words{""};
  for (size_t begin = 0; words.size() < kTokens;) {
    const size_t end = words.size();
    for (size_t i = begin; i < end && words.size() < kTokens; ++i)
      for (char c = 'a'; c <= 'z'; ++c) {
        words.push_back(words[i] + c);
        if (!words[i].empty()) merges.push_back({words[i], std::string(1, c)});
      }
    begin = end;
  }
  for (size_t i = 1; i < words.size(); ++i) vocab[words[i]] = i - 1;
  json["model"]["vocab"] = vocab;
  json["model"]["merges"] = merges;
  add_byte_tokens(json, static_cast<TokenId>(words.size() - 1));
  json["model"]["byte_fallback"] = true;
  json["added_tokens"].push_back(added_token(static_cast<TokenId>(words.size() + 255), "<bos>", true));
  return json;
}

class KeptTokenizer : public testing::Test {
 protected:
  KeptTokenizer() {
    fs::create_directories(folder_);
    write(json_);
  }
  ~KeptTokenizer() override { fs::remove_all(folder_); }

  static void SetUpTestSuite() { json_ = large_tokenizer().dump(); }
  void write(const std::string& json) const { std::ofstream(path_, std::ios::binary) << json; }
  Tokenizer load() const { return Tokenizer::load(path_.string(), folder_ / "packed"); }

  static std::vector<TokenId> ids(const Tokenizer& tokenizer) {
    std::vector<TokenId> all;
    for (const char* text : {"the quick brown fox", "zzzzzzzzzz", "<bos>a \xC3\xA9\xF0\x9F\x98\x80 b", "", "abcabcabcabc"})
      for (const bool parse : {false, true})
        for (const TokenId id : tokenizer.encode(text, {.add_special_tokens = true, .parse_special = parse})) all.push_back(id);
    return all;
  }

  fs::path kept() const {
    for (const auto& file : fs::directory_iterator(folder_ / "packed")) return file.path();
    return {};
  }
  ino_t inode() const {
    struct stat status{};
    return ::stat(kept().c_str(), &status) == 0 ? status.st_ino : 0;
  }

  static inline std::string json_;
  const fs::path folder_ = fs::path(testing::TempDir()) / message("tessera_kept_tokenizer_", ::getpid());
  const fs::path path_ = folder_ / "tokenizer.json";
};

TEST_F(KeptTokenizer, gives_the_same_ids_from_the_file_which_it_leaves_alone) {
  const Tokenizer plain = Tokenizer::load(path_.string());
  EXPECT_FALSE(fs::exists(folder_ / "packed"));
  EXPECT_EQ(ids(load()), ids(plain));
  const ino_t first = inode();
  const Tokenizer again = load();
  EXPECT_EQ(inode(), first);
  EXPECT_EQ(ids(again), ids(plain));
  ASSERT_EQ(again.vocab_size(), plain.vocab_size());
  for (TokenId id = 0; id < plain.vocab_size(); ++id) {
    ASSERT_EQ(again.id_to_token(id), plain.id_to_token(id));
    ASSERT_EQ(again.token_to_id(plain.id_to_token(id)), id);
    ASSERT_EQ(again.is_special(id), plain.is_special(id));
  }
}

TEST_F(KeptTokenizer, is_read_anew_when_any_part_of_its_file_changes) {
  load();
  for (const auto& [pointer, value] : std::vector<std::pair<const char*, Json>>{{"/model/merges/0", {"a", "b"}},
                                                                                {"/added_tokens/0/special", false},
                                                                                {"/model/ignore_merges", true},
                                                                                {"/added_tokens/0/rstrip", true}}) {
    Json json = Json::parse(json_);
    json[Json::json_pointer(pointer)] = value;
    write(json.dump());
    EXPECT_EQ(ids(load()), ids(parse(json))) << pointer;
    EXPECT_EQ(ids(load()), ids(parse(json))) << pointer;
  }
}

TEST_F(KeptTokenizer, is_right_with_any_byte_of_its_file_damaged) {
  const std::vector<TokenId> expected = ids(load());
  const std::string whole = read_file(kept().string(), size_t{1} << 30);
  const auto is_right_with = [&](const std::string& bytes) {
    std::ofstream(kept(), std::ios::binary) << bytes;
    return ids(load()) == expected;
  };
  std::vector<size_t> places;
  for (size_t at = 0; at < whole.size(); at += whole.size() / 16) places.push_back(at);
  for (size_t back = 1; back < 1000; back += 71) places.push_back(whole.size() - back);  // the directory
  for (const size_t at : places) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x81);
    ASSERT_TRUE(is_right_with(damaged)) << at;
  }
  for (const size_t bytes : {size_t{0}, size_t{100}, whole.size() / 2, whole.size() - 1})
    ASSERT_TRUE(is_right_with(whole.substr(0, bytes))) << bytes;
}

TEST_F(KeptTokenizer, needs_no_folder_that_can_be_written) {
  const std::vector<TokenId> expected = ids(Tokenizer::load(path_.string()));
  std::ofstream(folder_ / "packed") << "a file where the folder should be";
  EXPECT_EQ(ids(load()), expected);
}

// Tables whose checksums are right and whose values lie.
class LyingTables : public testing::Test {
 protected:
  struct Place {
    uint32_t begin, size;
  };
  struct Slot {
    uint32_t tag;
    TokenId id;
  };
  struct Merge {
    uint64_t pair;
    uint32_t rank;
    TokenId joined;
  };
  struct Tables {
    std::string bytes = "ab";
    std::vector<Place> places{{0, 1}, {1, 1}};
    std::vector<Slot> slots{{0, 0}, {0, -1}, {0, 1}, {0, -1}};
    std::vector<Merge> merges{{1, 0, 1}, {UINT64_MAX, 0, 0}};
  };

  ~LyingTables() override { fs::remove_all(path_); }
  bool are_taken(const Tables& tables) const {
    constexpr auto kChecked = KeptFileWriter::Piece::checked;
    const text::HashKeys keys = text::HashKeys::draw();
    KeptFileWriter writer(path_, "i", 0);
    for (const char* name : {"vocabulary keys", "merge keys"}) writer.add(name, std::as_bytes(std::span(&keys, 1)), kChecked);
    writer.add("vocabulary bytes", std::as_bytes(std::span(tables.bytes)), kChecked);
    writer.add("vocabulary places", std::as_bytes(std::span(tables.places)), kChecked);
    writer.add("vocabulary slots", std::as_bytes(std::span(tables.slots)), kChecked);
    writer.add("merges", std::as_bytes(std::span(tables.merges)), kChecked);
    writer.finish();
    const std::string bytes = read_file(path_.string(), 1 << 20);
    const auto file = KeptFile::read(std::as_bytes(std::span(bytes)), "i");
    const auto vocabulary = text::Vocabulary::restore(*file);
    return vocabulary && text::MergeTable::restore(*file, *vocabulary);
  }
  const fs::path path_ = fs::path(testing::TempDir()) / message("tessera_lying_", ::getpid(), ".tokenizer");
};

TEST_F(LyingTables, are_refused_beside_true_ones) {
  EXPECT_TRUE(are_taken({}));
  EXPECT_FALSE(are_taken({.bytes = "a"}));
  EXPECT_FALSE(are_taken({.places = {{0, 1}, {1, UINT32_MAX}}}));
  EXPECT_FALSE(are_taken({.places = {{0, 1}, {3, 0}}}));
  EXPECT_FALSE(are_taken({.places = {{0, 1}}}));
  EXPECT_FALSE(are_taken({.places = {{0, 1}, {UINT32_MAX, 0}}}));
  EXPECT_FALSE(are_taken({.slots = {{0, 0}, {0, -1}, {0, 2}, {0, -1}}}));
  EXPECT_FALSE(are_taken({.slots = {{0, 0}, {0, -1}, {0, -2}, {0, -1}}}));
  EXPECT_FALSE(are_taken({.slots = {{0, 0}, {0, 1}}}));
  EXPECT_FALSE(are_taken({.slots = {{0, 0}, {0, 1}, {0, 0}, {0, 1}}}));
  EXPECT_FALSE(are_taken({.slots = {{0, 0}, {0, -1}, {0, 1}}}));
  EXPECT_FALSE(are_taken({.slots = {}}));
  EXPECT_FALSE(are_taken({.merges = {}}));
  EXPECT_FALSE(are_taken({.merges = {{1, 0, 1}, {2, 0, 1}}}));
  EXPECT_FALSE(are_taken({.merges = {{1, 0, 2}, {UINT64_MAX, 0, 0}}}));
  EXPECT_FALSE(are_taken({.merges = {{1, 0, -1}, {UINT64_MAX, 0, 0}}}));
}

}  // namespace
}  // namespace tessera
