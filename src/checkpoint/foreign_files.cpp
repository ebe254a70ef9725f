#include "checkpoint/foreign_files.h"

#include <dirent.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kTakeOriginal = "; take the original checkpoint, stored as float32, float16 or bfloat16, and quantise it here";
constexpr std::string_view kAdapterConfig = "adapter_config.json";

// Files by their names, and what they are. The first row that a directory has a file of names it.
struct Kind {
  std::string_view begin, middle, end;
  std::string_view text;
  enum Where { anywhere, beside_config } where = anywhere;  // beside_config: only a directory with config.json is told by it
};
constexpr std::string_view kAdapter =
    "an adapter of peft is no model by itself; merge it into its base model with merge_and_unload, and save_pretrained what that gives";
constexpr std::string_view kPickle =
    "pickle is not supported, because reading one runs code from it; convert the checkpoint with save_pretrained of transformers, "
    "or take a revision that has safetensors";
constexpr std::string_view kOriginal =
    "the original layout of Meta or Mistral is not supported; take the repository's files for transformers, model.safetensors or its "
    "shards with their index, or convert with transformers' convert_..._weights_to_hf.py";
constexpr Kind kKinds[] = {
    {kAdapterConfig, "", "", kAdapter},
    {"adapter_model.", "", "", kAdapter},
    {"model_index.json", "", "", "a pipeline of diffusers makes images; name a language model"},
    {"", "", ".gguf", "GGUF is not supported; take the checkpoint that it was made of, with config.json and safetensors"},
    {"consolidated.", "", ".safetensors", kOriginal},
    {"consolidated.", "", ".pth", kOriginal},
    {"model.safetensors.index.", "", ".json", "a variant's index is not looked for; rename it to model.safetensors.index.json",
     Kind::beside_config},
    {"model", "-of-", ".safetensors", "shards without their index; download model.safetensors.index.json too", Kind::beside_config},
    {"model.", "", ".safetensors", "a variant is not looked for; rename it to model.safetensors", Kind::beside_config},
    {"", "", ".safetensors", "if it holds the whole model, rename it to model.safetensors", Kind::beside_config},
    {"", "", ".bin", kPickle},
    {"", "", ".pt", kPickle},
    {"", "", ".pth", kPickle},
    {"", "", ".pkl", kPickle},
    {"", "", ".onnx", "ONNX is not supported; take the checkpoint that it was made of, with safetensors"},
    {"", "", ".h5", "TensorFlow's weights are not supported; take a revision that has safetensors"},
    {"", "", ".msgpack", "Flax's weights are not supported; take a revision that has safetensors"},
};

bool is_of(const Kind& kind, std::string_view name) {
  return name.starts_with(kind.begin) && name.ends_with(kind.end) && name.find(kind.middle) != std::string_view::npos;
}

bool is_a_file_in(const fs::path& directory, std::string_view name) { return is_there((directory / name).string()); }

// " (its base is "org/name")", where an adapter's config says so.
std::string base_of(const fs::path& directory) {
  try {
    const std::string path = (directory / kAdapterConfig).string();
    const JsonDocument document = read_json(path);
    const ConfigReader config(document.root(), path);
    if (config.is_set("base_model_name_or_path")) return message(" (its base is ", printable(config.text("base_model_name_or_path")), ")");
  } catch (const FileError&) {  // it is an adapter all the same
  }
  return "";
}

// Throws where one of the directory's files tells what the directory is.
void refuse_by_a_file(const fs::path& directory, std::string_view lacks, bool has_config) {
  const std::vector<std::string> names = names_in(directory);
  for (const Kind& kind : kKinds) {
    if (kind.where == Kind::beside_config && !has_config) continue;
    const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) { return is_of(kind, name); });
    if (found == names.end()) continue;
    fail<FileError>(directory.string(), ": has no ", lacks, ", only ", printable(*found), ": ", kind.text,
                    kind.text == kAdapter ? base_of(directory) : "");
  }
}

// The folder below, or in its snapshots, that holds a checkpoint.
std::optional<fs::path> folder_below(const fs::path& directory, int depth = 0) {
  for (const std::string& name : names_in(directory)) {
    std::error_code error;
    if (name.starts_with('.') || !fs::is_directory(directory / name, error)) continue;
    if (is_a_file_in(directory / name, "config.json")) return directory / name;
    if (depth == 0 && name == "snapshots")
      if (std::optional<fs::path> snapshot = folder_below(directory / name, depth + 1)) return snapshot;
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> names_in(const fs::path& directory) {
  // Not std::filesystem's iterator: it ends the process when memory is exhausted.
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(directory.c_str()), ::closedir);
  std::vector<std::string> names;
  if (open == nullptr) return names;
  while (const dirent* const entry = ::readdir(open.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void refuse_file(const fs::path& file) {
  const std::string name = file.filename().string();
  for (const Kind& kind : kKinds)
    if (kind.where == Kind::anywhere && is_of(kind, name)) fail<FileError>(file.string(), ": ", kind.text);
  fail<FileError>(file.string(), ": is not a directory: name the directory that holds the checkpoint's files");
}

void refuse_without_config(const fs::path& directory) {
  refuse_by_a_file(directory, "config.json", false);
  check<FileError>(!names_in(directory).empty(), directory.string(),
                   ": is empty, with no config.json: name the directory that holds the checkpoint's files");
  if (const std::optional<fs::path> below = folder_below(directory))
    fail<FileError>(directory.string(), ": has no config.json; its ", printable(below->lexically_relative(directory).string()),
                    " has one: name that directory");
  fail<FileError>((directory / "config.json").string(), ": is not there: ", directory.string(),
                  " holds no checkpoint, or its download is incomplete");
}

void refuse_without_weights(const fs::path& directory) {
  refuse_by_a_file(directory, "model.safetensors", true);
  fail<FileError>(directory.string(), ": has neither model.safetensors nor model.safetensors.index.json: is the download complete?");
}

void refuse_without_tokenizer(const fs::path& directory) {
  constexpr std::string_view kOther[] = {"tokenizer.model", "vocab.json", "spiece.model", "tekken.json"};
  const auto* const found =
      std::find_if(std::begin(kOther), std::end(kOther), [&](std::string_view name) { return is_a_file_in(directory, name); });
  fail<FileError>((directory / "tokenizer.json").string(), ": is not there",
                  found == std::end(kOther) ? std::string() : message(", but ", *found),
                  ": only tokenizer.json is supported; transformers writes one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)");
}

void expect_no_pointer(std::string_view bytes, const std::string& path) {
  check<FileError>(!bytes.starts_with("version https://git-lfs.github.com/spec/"), path,
                   ": is a pointer of git-lfs, not the file itself: run git lfs pull in its directory, or hf download");
}

void expect_unquantised(const ConfigReader& config) {
  for (const std::string_view field : {"quantization", "quantization_config"}) {  // MLX writes the first, and may write both
    if (!config.is_set(field)) continue;
    const ConfigReader quantization = *config.object(field);
    const bool of_mlx = field == "quantization";
    const bool of_bitsandbytes = quantization.is_set("load_in_4bit") || quantization.is_set("load_in_8bit");
    const std::string method = quantization.is_set("quant_method") ? message(printable(quantization.text("quant_method")))
                               : of_mlx                            ? "MLX"
                               : of_bitsandbytes                   ? "bitsandbytes"
                                                                   : "a method without a name";
    config.refuse(field, "a checkpoint quantised by ", method, " is not supported", kTakeOriginal);
  }
}

void expect_plain_weights(std::span<const StoredTensor> tensors, const fs::path& directory) {
  struct Format {
    std::string_view end, name;
  };
  constexpr Format kFormats[] = {
      {".qweight", "GPTQ or AWQ"},  {".SCB", "bitsandbytes"}, {".absmax", "bitsandbytes"}, {".weight_packed", "compressed-tensors"},
      {".weight_scale_inv", "FP8"}, {".weight_scale", "FP8"}, {".scales", "MLX"}};
  const auto expect_none = [&](std::string_view end, const auto&... what) {
    for (const StoredTensor& tensor : tensors)
      check<FileError>(!tensor.name.ends_with(end), directory.string(), ": tensor ", printable(tensor.name), " is of ", what...);
  };
  for (const Format& format : kFormats)
    expect_none(format.end, "weights quantised by ", format.name, ", which are not supported", kTakeOriginal);
  expect_none(".base_layer.weight", "a model that an adapter of peft wraps; save_pretrained what merge_and_unload gives");
}

std::vector<std::string> notes_on_ignored_files(const fs::path& directory) {
  std::vector<std::string> notes;
  const std::string adapter = (directory / kAdapterConfig).string(), modules = (directory / "modules.json").string();
  if (is_there(adapter)) notes.push_back(message(adapter, ": the adapter is not applied", base_of(directory)));
  if (is_there(modules))
    notes.push_back(message(modules, ": a model of sentence-transformers, which is run as a language model: its pooling is not applied"));
  return notes;
}

}  // namespace tessera
