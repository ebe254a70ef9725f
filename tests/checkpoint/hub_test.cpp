#include "checkpoint/hub.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;
using testing::TemporaryDirectory;

const std::vector<std::string> kVariables = {"HF_HUB_CACHE",   "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME",
                                             "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"};

// Sets these variables, unsets the others that matter, and restores all.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const std::string& name : kVariables) {
      const char* const value = std::getenv(name.c_str());
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      ::unsetenv(name.c_str());
    }
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : before_) value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

template <class Error = FileError>
std::string error_of_locating(std::string_view name, const std::optional<std::string>& revision = std::nullopt) {
  return error_of<Error>([&] { locate_model(name, revision); });
}

TEST(hub, looks_for_the_cache_where_huggingface_hub_does) {
  const auto cache = [](const std::map<std::string, std::string>& variables) {
    const Environment environment(variables);
    return hub_cache().string();
  };
  EXPECT_EQ(cache({{"HOME", "/h"}}), "/h/.cache/huggingface/hub");
  EXPECT_EQ(cache({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}}), "/x/huggingface/hub");
  EXPECT_EQ(cache({{"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "/f"}}), "/f/hub");
  EXPECT_EQ(cache({{"HF_HOME", "/f"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}), "/old");
  EXPECT_EQ(cache({{"HF_HOME", "/f"}, {"HUGGINGFACE_HUB_CACHE", "/old"}, {"HF_HUB_CACHE", "/new"}}), "/new");
  EXPECT_EQ(cache({{"HOME", "/h"}, {"HF_HOME", "~/f"}}), "/h/f/hub");
  EXPECT_EQ(cache({{"HOME", "/h"}, {"HF_HOME", ""}}), "/h/.cache/huggingface/hub");
  const Environment none({});
  EXPECT_TRUE(holds(error_of([] { hub_cache(); }), "none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set"));
}

TEST(hub, finds_an_id_through_its_main_reference) {
  const TemporaryDirectory cache;
  const Environment environment({{"HF_HUB_CACHE", cache.path().string()}});
  cache.write("models--google--gemma-3-270m/refs/main", "0123abcd\n");
  cache.write("models--google--gemma-3-270m/snapshots/0123abcd/config.json", "{}");
  EXPECT_EQ(locate_model("google/gemma-3-270m"), cache.path() / "models--google--gemma-3-270m/snapshots/0123abcd");
}

TEST(hub, finds_a_revision_by_its_branch_tag_or_commit) {
  const TemporaryDirectory cache;
  const Environment environment({{"HF_HUB_CACHE", cache.path().string()}});
  const std::string id = "a/b", repository = "models--a--b/", commits[] = {"0123", "4567", "89ab"};
  for (const std::string& commit : commits) cache.write(repository + "snapshots/" + commit + "/config.json", "{}");
  cache.write(repository + "refs/main", "0123");
  cache.write(repository + "refs/v1.0", "4567\n");
  cache.write(repository + "refs/refs/pr/1", "89ab");
  const auto found = [&](const std::optional<std::string>& revision) { return locate_model(id, revision).filename().string(); };
  EXPECT_EQ(found(std::nullopt), "0123");
  EXPECT_EQ(found("main"), "0123");
  EXPECT_EQ(found("v1.0"), "4567");
  EXPECT_EQ(found("refs/pr/1"), "89ab");
  EXPECT_EQ(found("89ab"), "89ab");
  EXPECT_TRUE(holds(error_of_locating(id, "v2"),
                    "a/b: revision v2 is not in the hub cache " + cache.path().string() + "; run: hf download a/b --revision v2"));
  EXPECT_TRUE(holds(error_of_locating(id, "v1"), "revision v1 is not in the hub cache"));
  for (const std::string wrong : {"", "../../../etc", "a//b", "/etc", "-x", "a b", "a\x1b", "main/", "a\nb"})
    EXPECT_TRUE(holds(error_of_locating<std::invalid_argument>(id, wrong), "is no branch, tag or commit")) << wrong;
  EXPECT_TRUE(holds(error_of_locating<std::invalid_argument>(cache.path().string(), "main"),
                    "is a directory, which has no revisions; leave revision main out"));
}

TEST(hub, an_id_without_a_main_reference_opens_its_only_snapshot) {
  const TemporaryDirectory cache;
  const Environment environment({{"HF_HUB_CACHE", cache.path().string()}});
  cache.write("models--a--b/snapshots/89ab/config.json", "{}");
  cache.write("models--a--b/snapshots/.DS_Store", "");
  EXPECT_EQ(locate_model("a/b"), cache.path() / "models--a--b/snapshots/89ab");
  EXPECT_TRUE(holds(error_of_locating("a/b", "main"), "revision main is not in the hub cache"));
  cache.write("models--a--b/snapshots/0123/config.json", "{}");
  EXPECT_TRUE(
      holds(error_of_locating("a/b"), "has 2 snapshots and no refs/main that tells which; name one as the revision, such as \"0123\""));
  EXPECT_EQ(locate_model("a/b", "89ab"), cache.path() / "models--a--b/snapshots/89ab");
  cache.write("models--a--c/refs/v1", "0123");
  EXPECT_TRUE(holds(error_of_locating("a/c"), "nor in the hub cache"));
}

TEST(hub, an_id_that_is_not_there_gets_the_command_that_downloads_it) {
  const TemporaryDirectory cache;
  {
    const Environment environment({{"HF_HUB_CACHE", cache.path().string()}});
    EXPECT_TRUE(holds(error_of_locating("google/gemma-3-270m"), "; run: hf download google/gemma-3-270m"));
    EXPECT_TRUE(holds(error_of_locating("google/gemma-3-270m"), cache.path().string()));
    cache.write("models--a--b/refs/main", "0123abcd");
    EXPECT_TRUE(holds(error_of_locating("a/b"), "snapshots/0123abcd is not there: its download is incomplete; run: hf download a/b"));
    cache.write("models--a--c/refs/main", "../../../../etc");
    EXPECT_TRUE(holds(error_of_locating("a/c"), "holds \"../../../../etc\", which is no commit"));
    cache.write("models--a--d/refs/main", "");
    EXPECT_TRUE(holds(error_of_locating("a/d"), "which is no commit"));
  }
  for (const std::string value : {"1", "on", "Yes", "TRUE"}) {
    const Environment environment({{"HF_HUB_CACHE", cache.path().string()}, {"HF_HUB_OFFLINE", value}});
    EXPECT_TRUE(holds(error_of_locating("google/x"), "HF_HUB_OFFLINE is set, so unset it, then run: hf download google/x"));
  }
}

TEST(hub, a_directory_wins_and_what_is_neither_is_refused) {
  const TemporaryDirectory cache, directory;
  const Environment environment({{"HF_HUB_CACHE", cache.path().string()}});
  EXPECT_EQ(locate_model(directory.path().string()), directory.path());
  const std::string file = directory.write("model.safetensors", "x");
  EXPECT_TRUE(holds(error_of_locating(file), "is not a directory: name the directory that holds"));
  EXPECT_TRUE(holds(error_of_locating(""), "the model's name is empty"));
  EXPECT_TRUE(holds(error_of_locating(std::string_view("a/b\0c", 5)), "is no path"));
  EXPECT_TRUE(holds(error_of_locating(std::string(5000, 'x')), "is no path"));
  for (const std::string name : {"gemma", "/no/such", "./x", "../x/y", "a/b/c", "a/..", "a/b..c", "a/b--c", "-a/b", "a/b.", "a/b.git", "a/",
                                 "/b", "a/b c", "a/\x1b[2J"}) {
    EXPECT_TRUE(holds(error_of_locating(name), "no such directory, and not a Hugging Face id")) << name;
  }
  EXPECT_TRUE(holds(error_of_locating(std::string("a/") + std::string(95, 'b')), "no such directory, and not"));
  EXPECT_TRUE(holds(error_of_locating(std::string("a/") + std::string(94, 'b')), "hf download"));
}

}  // namespace
}  // namespace tessera
