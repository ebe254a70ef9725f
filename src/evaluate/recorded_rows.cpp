#include "evaluate/recorded_rows.h"

#include <cstring>
#include <limits>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/json.h"
#include "core/stored_type.h"

namespace tessera {
namespace {

constexpr std::string_view kTokens = "input_ids";

template <class Integer>
std::vector<TokenId> read_tokens(const std::byte* data, int64_t count, const std::string& path) {
  std::vector<TokenId> tokens;
  for (int64_t i = 0; i < count; ++i) {
    Integer id;
    std::memcpy(&id, data + static_cast<size_t>(i) * sizeof id, sizeof id);
    check<FileError>(id >= 0 && id <= std::numeric_limits<TokenId>::max(), path, ": input_ids: ", id, " is not a token id");
    tokens.push_back(static_cast<TokenId>(id));
  }
  return tokens;
}

}  // namespace

RecordedRows::RecordedRows(const std::string& path) : file_(path) {
  const std::vector<SafetensorsTensor> tensors = parse_safetensors(file_.bytes(), path);
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.name != kTokens) continue;
    check<FileError>((tensor.dtype == "I64" || tensor.dtype == "I32") && tensor.shape.size() == 1 && tensor.shape[0] > 0, path,
                     ": input_ids: is not a list of at least one I64 or I32");
    const std::byte* const data = file_.bytes().data() + tensor.begin;
    tokens_ = tensor.dtype == "I64" ? read_tokens<int64_t>(data, tensor.shape[0], path) : read_tokens<int32_t>(data, tensor.shape[0], path);
  }
  check<FileError>(!tokens_.empty(), path, ": has no tensor input_ids: this is no recording of a forward");
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.name == kTokens) continue;
    check<FileError>(tensor.dtype == "F32" || tensor.dtype == "BF16", path, ": ", printable(tensor.name), " is stored as ", tensor.dtype,
                     "; F32 and BF16 are read");
    check<FileError>(tensor.shape.size() == 2 && tensor.shape[0] == static_cast<int64_t>(tokens_.size()), path, ": ",
                     printable(tensor.name), " is not one row for each of the ", tokens_.size(), " tokens");
    ops_[tensor.name] = {tensor.dtype == "F32" ? DataType::float32 : DataType::bfloat16, tensor.shape[1], tensor.begin};
  }
  file_.expect_unchanged();
}

void RecordedRows::read(const Rows& rows, int64_t first, std::span<float> out) const {
  const StoredType type = rows.type == DataType::float32 ? StoredType::float32 : StoredType::bfloat16;
  const int64_t begin = first * rows.width, bytes = bytes_of(type);
  const std::byte* const data = file_.bytes().data() + rows.begin;
  for (size_t i = 0; i < out.size(); ++i) out[i] = load_stored(type, data, begin + static_cast<int64_t>(i));
  file_.release(file_.bytes().subspan(rows.begin + static_cast<uint64_t>(begin * bytes), out.size() * static_cast<size_t>(bytes)));
  file_.expect_unchanged();
}

}  // namespace tessera
