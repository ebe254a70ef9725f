#include "checkpoint/safetensors_source.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <map>

#include "allocations.h"
#include "checkpoint/memory_source.h"
#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;
using testing::safetensors;
using testing::TemporaryDirectory;

// A file of float32 tensors of 2 values each under these names.
std::string tensors(const std::vector<std::string>& names) {
  std::string header = "{";
  for (size_t i = 0; i < names.size(); ++i)
    header += message(i == 0 ? "" : ",", "\"", names[i], R"(":{"dtype":"F32","shape":[2],"data_offsets":[)", 8 * i, ",", 8 * i + 8, "]}");
  return safetensors(header + "}", 8 * names.size());
}

std::string open_error(const TemporaryDirectory& directory) {
  return error_of([&] { SafetensorsSource source(directory.path()); });
}

std::vector<std::string> names(const SafetensorsSource& source) {
  std::vector<std::string> result;
  for (const StoredTensor& tensor : source.tensors()) result.push_back(tensor.name);
  return result;
}

// Shards "1.safetensors" with a, b and "2.safetensors" with c, and an index, all parts replaceable.
struct Sharded {
  std::string index = R"({"metadata":{"total_size":24},"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}})";
  std::map<std::string, std::string> files = {{"1.safetensors", tensors({"a", "b"})}, {"2.safetensors", tensors({"c"})}};

  void write(const TemporaryDirectory& directory) const {
    directory.write("model.safetensors.index.json", index);
    for (const auto& [name, bytes] : files) directory.write(name, bytes);
  }
  std::string error() const {
    const TemporaryDirectory directory;
    write(directory);
    return open_error(directory);
  }
  std::vector<std::string> notes() const {
    const TemporaryDirectory directory;
    write(directory);
    return SafetensorsSource(directory.path()).notes();
  }
};

std::string map_c_to(const std::string& shard) {
  return R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":")" + shard + "\"}}";
}

TEST(safetensors_source, has_an_identity_that_changes_with_the_file_even_if_its_size_and_time_do_not) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("model.safetensors", tensors({"x"}));
  const auto identity = [&] { return SafetensorsSource(directory.path()).identity(); };
  const std::string first = identity();
  EXPECT_EQ(identity(), first);
  const auto written = std::filesystem::last_write_time(path);
  std::string bytes = tensors({"x"});
  bytes.back() ^= 1;
  ::usleep(20'000);  // past the file system's clock tick
  directory.write("model.safetensors", bytes);
  std::filesystem::last_write_time(path, written);
  EXPECT_NE(identity(), first);
  const std::string second = identity();
  std::filesystem::copy_file(path, directory / "copy");
  std::filesystem::rename(directory / "copy", path);
  EXPECT_NE(identity(), second);
}

TEST(safetensors_source, lends_the_bytes_of_a_single_file) {
  const TemporaryDirectory directory;
  directory.write(
      "model.safetensors",
      safetensors(R"({"x":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"y":{"dtype":"I64","shape":[],"data_offsets":[6,14]}})", 14));
  SafetensorsSource source(directory.path());
  EXPECT_EQ(names(source), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(source.find("x")->type, StoredType::bfloat16);
  EXPECT_EQ(source.find("x")->shape, (std::vector<int64_t>{3}));
  EXPECT_EQ(source.find("y")->type, std::nullopt);
  EXPECT_EQ(source.find("y")->dtype, "I64");
  EXPECT_EQ(source.find("z"), nullptr);
  const std::span<const std::byte> x = source.lend("x");
  ASSERT_EQ(x.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(std::to_integer<size_t>(x[i]), i);
  EXPECT_EQ(std::to_integer<int>(source.lend("y")[0]), 6);
  source.release("x");
  source.release("y");
  EXPECT_TRUE(source.notes().empty());
  EXPECT_THROW(source.lend("z"), std::invalid_argument);
}

TEST(safetensors_source, lends_aligned_bytes_whatever_the_header_s_length) {
  for (size_t blanks = 0; blanks < 4; ++blanks) {
    const TemporaryDirectory directory;
    directory.write("model.safetensors",
                    safetensors(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(blanks, ' '), 8));
    SafetensorsSource source(directory.path());
    const std::span<const std::byte> x = source.lend("x");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data()) % 4, 0u);
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(std::to_integer<size_t>(x[i]), i);
    source.release("x");
  }
}

TEST(safetensors_source, a_file_cut_while_lent_is_refused_on_release) {
  const TemporaryDirectory directory;
  const std::string path =
      directory.write("model.safetensors", safetensors(R"({"x":{"dtype":"F32","shape":[100000],"data_offsets":[0,400000]}})", 400000));
  SafetensorsSource source(directory.path());
  const std::span<const std::byte> x = source.lend("x");
  ASSERT_EQ(::truncate(path.c_str(), 1000), 0);
  const std::vector<std::byte> packed(x.begin(), x.end());
  EXPECT_TRUE(holds(error_of([&] { source.release("x"); }), "model.safetensors: was cut short"));
  EXPECT_NE(error_of([&] { source.lend("x"); }), "");
}

TEST(safetensors_source, reads_shards_and_agrees_with_their_index) {
  const TemporaryDirectory directory;
  Sharded().write(directory);
  SafetensorsSource source(directory.path());
  EXPECT_EQ(names(source), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(std::to_integer<int>(source.lend("b")[0]), 8);
  EXPECT_EQ(std::to_integer<int>(source.lend("c")[0]), 0);
  EXPECT_TRUE(source.notes().empty());
}

TEST(safetensors_source, refuses_shards_that_their_index_does_not_describe) {
  using Change = std::function<void(Sharded&)>;
  const std::vector<std::pair<std::string, Change>> cases = {
      {"weight_map names \"3.safetensors\", which is not there", [](Sharded& s) { s.index = map_c_to("3.safetensors"); }},
      {"\"c\" is in \"/etc/x.safetensors\", which is not the name", [](Sharded& s) { s.index = map_c_to("/etc/x.safetensors"); }},
      {"\"c\" is in \"../2.safetensors\", which is not the name", [](Sharded& s) { s.index = map_c_to("../2.safetensors"); }},
      {"\"c\" is in \"sub/2.safetensors\", which is not the name", [](Sharded& s) { s.index = map_c_to("sub/2.safetensors"); }},
      {"\"c\" is in \"2.safetensors\\u0000\", which is not the name", [](Sharded& s) { s.index = map_c_to("2.safetensors\\u0000"); }},
      {"\"c\" is in \"2\\n.safetensors\", which is not the name", [](Sharded& s) { s.index = map_c_to("2\\n.safetensors"); }},
      {"\"c\" is in \"2.bin\", which is not the name", [](Sharded& s) { s.index = map_c_to("2.bin"); }},
      {"\"c\" is in \"\", which is not the name", [](Sharded& s) { s.index = map_c_to(""); }},
      {"tensor \"a\" is also in \"2.safetensors\"", [](Sharded& s) { s.files["2.safetensors"] = tensors({"a", "c"}); }},
      {"JSON key \"c\" stands twice",
       [](Sharded& s) { s.index = R"({"weight_map":{"a":"1.safetensors","c":"1.safetensors","c":"2.safetensors"}})"; }},
      {"tensor \"c\" is in \"1.safetensors\", but it is in \"2.safetensors\"",
       [](Sharded& s) {
         s.index = R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}})";
         s.files["1.safetensors"] = tensors({"a"});
         s.files["2.safetensors"] = tensors({"b", "c"});
       }},
      {"tensor \"c\" is in \"2.safetensors\", but it is not there", [](Sharded& s) { s.files["2.safetensors"] = tensors({"d"}); }},
      {"not valid JSON", [](Sharded& s) { s.index = "{"; }},
      {"weight_map is not an object", [](Sharded& s) { s.index = "[]"; }},
      {"weight_map is not an object", [](Sharded& s) { s.index = "{}"; }},
      {"weight_map is not an object", [](Sharded& s) { s.index = R"({"weight_map":["a"]})"; }},
      {"weight_map is empty", [](Sharded& s) { s.index = R"({"weight_map":{}})"; }},
      {"\"a\" is not a file name", [](Sharded& s) { s.index = R"({"weight_map":{"a":1}})"; }},
      {"2.safetensors: header length", [](Sharded& s) { s.files["2.safetensors"] = "no safetensors file at all"; }},
  };
  EXPECT_EQ(Sharded().error(), "");
  for (const auto& [expected, change] : cases) {
    Sharded sharded;
    change(sharded);
    EXPECT_TRUE(holds(sharded.error(), expected));
  }
}

TEST(safetensors_source, notes_what_is_odd_but_harmless) {
  Sharded wrong_total;
  wrong_total.index.replace(wrong_total.index.find("24"), 2, "25");
  ASSERT_EQ(wrong_total.notes().size(), 1u);
  EXPECT_TRUE(holds(wrong_total.notes()[0], "total_size is 25 but the shards hold 24 bytes"));

  Sharded extra_shard;
  extra_shard.files["consolidated.safetensors"] = "anything";
  ASSERT_EQ(extra_shard.notes().size(), 1u);
  EXPECT_TRUE(holds(extra_shard.notes()[0], "does not name \"consolidated.safetensors\", which was ignored"));

  Sharded unlisted;
  unlisted.files["2.safetensors"] = tensors({"c", "d"});
  unlisted.index.replace(unlisted.index.find("24"), 2, "32");
  ASSERT_EQ(unlisted.notes().size(), 1u);
  EXPECT_TRUE(holds(unlisted.notes()[0], "1 tensors of the shards are not listed"));
}

TEST(safetensors_source, an_index_of_two_hundred_thousand_tensors_takes_memory_in_proportion) {
  std::string index = R"({"weight_map":{)";
  for (int i = 0; i < 200'000; ++i) index += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":"1.safetensors")";
  Sharded sharded;
  sharded.index = index + "}}";
  const testing::AllocationWatch watch;
  EXPECT_TRUE(holds(sharded.error(), "but it is not there"));
  EXPECT_LT(watch.largest(), 9 * sharded.index.size());
}

TEST(safetensors_source, a_directory_without_safetensors_is_refused_and_pickles_are_never_read) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(holds(open_error(directory), "has neither model.safetensors nor model.safetensors.index.json"));
  directory.write("pytorch_model.bin", "a pickle");
  EXPECT_TRUE(holds(open_error(directory), "only \"pytorch_model.bin\": pickle is not supported"));
  std::filesystem::create_symlink("../../blobs/gone", directory / "model.safetensors");
  EXPECT_TRUE(holds(open_error(directory), "model.safetensors: cannot be opened: No such file"));
}

TEST(safetensors_source, knows_tensors_by_the_same_names_in_every_layout) {
  const std::vector<std::string> expected = {"lm_head.weight", "model.norm.weight", "vision_tower.x"};
  const std::vector<std::vector<std::string>> layouts = {
      {"lm_head.weight", "model.norm.weight", "vision_tower.x"},
      {"language_model.lm_head.weight", "language_model.model.norm.weight", "vision_tower.x"},
      {"lm_head.weight", "model.language_model.norm.weight", "model.vision_tower.x"},
      {"lm_head.weight", "model.norm.weight", "vision_tower.x", "model.layers.0.self_attn.rotary_emb.inv_freq",
       "language_model.model.rotary_emb.inv_freq"},
  };
  for (const std::vector<std::string>& layout : layouts) {
    const TemporaryDirectory directory;
    directory.write("model.safetensors", tensors(layout));
    EXPECT_EQ(names(SafetensorsSource(directory.path())), expected);
  }
  const TemporaryDirectory directory;
  directory.write("model.safetensors", tensors({"model.norm.weight", "language_model.model.norm.weight"}));
  EXPECT_TRUE(holds(open_error(directory), "another tensor is also known as \"model.norm.weight\""));
}

TEST(weight_source, tensors_are_equal_by_value_whatever_their_types) {
  const std::vector<float> values = {1.0f, -2.5f, 3e-3f}, other = {1.0f, -2.5f, 4.0f}, broken = {1.0f, NAN, 2.0f};
  const std::vector<uint16_t> halves = {0x3F80, 0xC020, 0x4080};  // other's, in bfloat16
  const auto item = [](const char* name, StoredType type, const auto& of) {
    return MemorySource::Item{name, type, {static_cast<int64_t>(of.size())}, std::as_bytes(std::span(of))};
  };
  MemorySource source({item("values", StoredType::float32, values), item("other", StoredType::float32, other),
                       item("halves", StoredType::bfloat16, halves), item("broken", StoredType::float32, broken),
                       item("as_broken", StoredType::float32, std::span(broken)),
                       item("short", StoredType::float32, std::span(values).first(2))});
  EXPECT_TRUE(source.equal("other", "halves"));
  EXPECT_TRUE(source.equal("broken", "as_broken"));  // one and the same memory
  EXPECT_FALSE(source.equal("values", "other"));
  EXPECT_FALSE(source.equal("values", "halves"));
  EXPECT_FALSE(source.equal("values", "short"));
  EXPECT_FALSE(source.equal("values", "absent"));
  const std::vector<float> broken_again = broken;
  MemorySource nans({item("a", StoredType::float32, broken), item("b", StoredType::float32, broken_again)});
  EXPECT_FALSE(nans.equal("a", "b"));
}

TEST(safetensors_source, every_failing_allocation_is_a_clean_bad_alloc) {
  const TemporaryDirectory directory;
  Sharded().write(directory);
  size_t failures = 0;
  for (size_t n = 1;; ++n) {
    ASSERT_LT(n, 10'000u);
    const testing::AllocationWatch watch(n);
    try {
      SafetensorsSource source(directory.path());
      source.lend("a");
      source.release("a");
      break;
    } catch (const std::bad_alloc&) {
      ++failures;
    }
  }
  EXPECT_GT(failures, 20u);
}

TEST(weight_source, tells_whether_all_values_are_finite) {
  const auto finite = [](auto values, StoredType type) { return all_finite(std::as_bytes(std::span(values)), type); };
  EXPECT_TRUE(finite(std::vector<float>{0.0f, -3e38f, 1e-45f}, StoredType::float32));
  EXPECT_FALSE(finite(std::vector<float>{0.0f, NAN, 1.0f}, StoredType::float32));
  EXPECT_FALSE(finite(std::vector<float>{0.0f, 1.0f, -INFINITY}, StoredType::float32));
  EXPECT_TRUE(finite(std::vector<uint16_t>{0x0000, 0x7F7F, 0xFF7F}, StoredType::bfloat16));
  EXPECT_FALSE(finite(std::vector<uint16_t>{0x0000, 0xFF80}, StoredType::bfloat16));
  EXPECT_FALSE(finite(std::vector<uint16_t>{0x7FC0}, StoredType::bfloat16));
  EXPECT_TRUE(finite(std::vector<uint16_t>{0x7BFF, 0xFBFF}, StoredType::float16));
  EXPECT_FALSE(finite(std::vector<uint16_t>{0x7C00}, StoredType::float16));
  EXPECT_FALSE(finite(std::vector<uint16_t>{0xFE00}, StoredType::float16));
}

}  // namespace
}  // namespace tessera
