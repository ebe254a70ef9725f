#pragma once
// What people take for a checkpoint that can be run and is none: one line says what it is and what to do. All throw FileError.
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/weight_source.h"

namespace tessera {

// A model that is named by a file, and a directory without config.json, without weights that are read, without tokenizer.json.
[[noreturn]] void refuse_file(const std::filesystem::path& file);
[[noreturn]] void refuse_without_config(const std::filesystem::path& directory);
[[noreturn]] void refuse_without_weights(const std::filesystem::path& directory);
[[noreturn]] void refuse_without_tokenizer(const std::filesystem::path& directory);

// Refuses what git leaves where git-lfs has not put the file yet. `bytes` are the file's, or its first.
void expect_no_pointer(std::string_view bytes, const std::string& path);

// Refuses weights that are quantised already, as a field of config.json tells, and as tensors tell that only such a format has, or an
// adapter that was not merged.
void expect_unquantised(const ConfigReader& config);
void expect_plain_weights(std::span<const StoredTensor> tensors, const std::filesystem::path& directory);

// What lies beside a checkpoint's own files and changes what other programs make of it: for the user to see.
std::vector<std::string> notes_on_ignored_files(const std::filesystem::path& directory);

// A directory's names, sorted; none where it cannot be read.
std::vector<std::string> names_in(const std::filesystem::path& directory);

}  // namespace tessera
