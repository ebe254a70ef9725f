#pragma once
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/data_type.h"
#include "core/mapped_file.h"
#include "core/types.h"

namespace tessera {

// What another program's forward gave, in a safetensors file (docs/compare.md): for each op a tensor [tokens, width] in F32 or BF16 under
// the op's name (Observation::name), and the prompt as "input_ids" [tokens] in I64 or I32. Mapped: rows are read when asked for.
class RecordedRows {
 public:
  struct Rows {
    DataType type;
    int64_t width;
    uint64_t begin;  // of its bytes in the file
  };

  // Throws FileError for a file that is not this.
  explicit RecordedRows(const std::string& path);

  const std::vector<TokenId>& tokens() const { return tokens_; }
  const std::map<std::string, Rows, std::less<>>& ops() const { return ops_; }

  // The rows of the tokens from `first` on, as many as `out` holds. Throws FileError when the file changed meanwhile.
  void read(const Rows& rows, int64_t first, std::span<float> out) const;

 private:
  MappedFile file_;
  std::vector<TokenId> tokens_;
  std::map<std::string, Rows, std::less<>> ops_;
};

}  // namespace tessera
