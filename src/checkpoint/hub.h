#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tessera {

// The directory of a model named by a directory, or by a Hugging Face id ("google/gemma-3-270m") that the local hub cache holds:
//   $HF_HUB_CACHE, else $HUGGINGFACE_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub
//   models--ORG--NAME/refs/REVISION names the commit, snapshots/COMMIT holds the files
// The revision is a branch, a tag or a commit; without one it is main, or, where the cache has no refs/main, the only snapshot. A directory
// that exists wins over an id. Nothing is ever downloaded. Throws FileError; for an id that isn't there it holds the command that downloads
// it. Throws std::invalid_argument for a text that is no revision, and for a directory's.
std::filesystem::path locate_model(std::string_view name_or_directory, const std::optional<std::string>& revision = std::nullopt);

// Where ids are looked for. Throws FileError when no environment variable tells.
std::filesystem::path hub_cache();

}  // namespace tessera
