#include "checkpoint/hub.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/foreign_files.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

// An environment variable; unset or empty: nullopt.
std::optional<std::string> variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

// A directory from the environment; "~/" is the home directory.
std::optional<fs::path> directory_variable(const char* name) {
  const std::optional<std::string> value = variable(name);
  if (!value) return std::nullopt;
  const std::optional<std::string> home = variable("HOME");
  return value->starts_with("~/") && home ? fs::path(*home) / value->substr(2) : fs::path(*value);
}

bool is_on(const char* name) {
  std::string value = variable(name).value_or("");
  std::transform(value.begin(), value.end(), value.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

// As huggingface_hub's validate_repo_id judges each part of an id.
bool is_id_part(std::string_view part) {
  return !part.empty() && part.find_first_not_of(std::string(kLetters) + "._-") == std::string_view::npos &&
         kLetters.find(part.front()) != std::string_view::npos && part.back() != '-' && part.back() != '.' &&
         part.find("--") == std::string_view::npos && part.find("..") == std::string_view::npos && !part.ends_with(".git");
}

bool is_id(std::string_view name) {
  const size_t slash = name.find('/');
  return name.size() <= 96 && slash != std::string_view::npos && is_id_part(name.substr(0, slash)) && is_id_part(name.substr(slash + 1));
}

bool is_a_directory(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// As the names of branches and tags are, so that they are paths below refs/.
bool is_revision(std::string_view name) {
  if (name.empty() || name.size() > 250 || name.front() == '-' || name.find("..") != std::string_view::npos) return false;
  if (name.front() == '/' || name.back() == '/' || name.find("//") != std::string_view::npos) return false;
  return name.find_first_not_of(std::string(kLetters) + "._-+/") == std::string_view::npos;
}

// The commit that a file of refs/ names; FileError unless it is a plain word.
std::string read_commit(const fs::path& reference) {
  std::string commit = read_file(reference.string(), 256);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r' || commit.back() == ' ')) commit.pop_back();
  check<FileError>(!commit.empty() && commit.find_first_not_of(kLetters) == std::string::npos, reference.string(), ": holds ",
                   printable(commit), ", which is no commit");
  return commit;
}

std::vector<std::string> directories_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (is_a_directory(entry->path())) names.push_back(entry->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

fs::path find_in_cache(const std::string& id, const std::optional<std::string>& revision) {
  const fs::path cache = hub_cache();
  const size_t slash = id.find('/');
  const fs::path repository = cache / ("models--" + id.substr(0, slash) + "--" + id.substr(slash + 1));
  const std::string command =
      std::string(is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE") ? "; HF_HUB_OFFLINE is set, so unset it, then run: hf download "
                                                                           : "; run: hf download ") +
      id + (revision ? " --revision " + *revision : "");
  const fs::path reference = repository / "refs" / revision.value_or("main"), snapshots = repository / "snapshots";
  std::error_code error;
  std::string commit;
  if (fs::is_regular_file(reference, error)) {
    commit = read_commit(reference);
  } else if (revision) {
    check<FileError>(is_a_directory(snapshots / *revision), id, ": revision ", *revision, " is not in the hub cache ", cache.string(),
                     command);
    commit = *revision;
  } else {
    const std::vector<std::string> names = directories_of(snapshots);
    check<FileError>(!names.empty(), id, ": is not a directory, nor in the hub cache ", cache.string(), command);
    check<FileError>(names.size() == 1, id, ": the hub cache ", cache.string(), " has ", names.size(),
                     " snapshots and no refs/main that tells which; name one as the revision, such as ", printable(names.front()));
    commit = names.front();
  }
  check<FileError>(is_a_directory(snapshots / commit), id, ": ", (snapshots / commit).string(), " is not there: its download is incomplete",
                   command);
  return snapshots / commit;
}

}  // namespace

fs::path hub_cache() {
  if (const auto cache = directory_variable("HF_HUB_CACHE")) return *cache;
  if (const auto cache = directory_variable("HUGGINGFACE_HUB_CACHE")) return *cache;
  if (const auto home = directory_variable("HF_HOME")) return *home / "hub";
  if (const auto cache = directory_variable("XDG_CACHE_HOME")) return *cache / "huggingface" / "hub";
  if (const auto home = directory_variable("HOME")) return *home / ".cache" / "huggingface" / "hub";
  fail<FileError>("no hub cache: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set; set HF_HOME or name a directory");
}

fs::path locate_model(std::string_view name_or_directory, const std::optional<std::string>& revision) {
  check<FileError>(!name_or_directory.empty(), "the model's name is empty: name a directory or a Hugging Face id");
  check<FileError>(name_or_directory.find('\0') == std::string_view::npos && name_or_directory.size() < 4096,
                   "the model's name is no path: ", printable(name_or_directory));
  const fs::path path(name_or_directory);
  check(!revision || is_revision(*revision), "revision ", printable(revision.value_or("")), ": is no branch, tag or commit");
  if (is_a_directory(path)) {
    check(!revision, path.string(), ": is a directory, which has no revisions; leave revision ", revision.value_or(""), " out");
    return path;
  }
  std::error_code error;
  if (fs::exists(path, error)) refuse_file(path);
  check<FileError>(is_id(name_or_directory), printable(name_or_directory),
                   ": no such directory, and not a Hugging Face id like \"google/gemma-3-270m\"");
  return find_in_cache(std::string(name_or_directory), revision);
}

}  // namespace tessera
