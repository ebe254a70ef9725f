#pragma once
#include <filesystem>
#include <string_view>

namespace tessera {

// The directory of a model named by a directory, or by a Hugging Face id ("google/gemma-3-270m") that the local hub cache holds:
//   $HF_HUB_CACHE, else $HUGGINGFACE_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub
//   models--ORG--NAME/refs/main names the commit, snapshots/COMMIT holds the files
// A directory that exists wins over an id. Nothing is ever downloaded. Throws FileError; for an id that isn't there it holds the command
// that downloads it.
std::filesystem::path locate_model(std::string_view name_or_directory);

// Where ids are looked for. Throws FileError when no environment variable tells.
std::filesystem::path hub_cache();

}  // namespace tessera
