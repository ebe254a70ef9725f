#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr uint64_t kMostHeaderBytes = 100'000'000;
constexpr size_t kMostDimensions = 8;
constexpr int kMostDepth = 64;  // of unknown fields

struct Dtype {
  std::string_view name;
  uint64_t bits;
};
constexpr Dtype kDtypes[] = {
    {"BOOL", 8},    {"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16}, {"F16", 16}, {"BF16", 16},   {"I32", 32},
    {"U32", 32},    {"F32", 32},        {"C64", 64},        {"F64", 64},    {"I64", 64}, {"U64", 64},
};

// The beginning of a message about a tensor; made only when it is streamed.
struct Where {
  const std::string& source;
  const std::string& name;
  friend std::ostream& operator<<(std::ostream& out, const Where& where) {
    return out << where.source << ": tensor " << printable(where.name) << ": ";
  }
};

struct ShownShape {
  const std::vector<int64_t>& shape;
  friend std::ostream& operator<<(std::ostream& out, const ShownShape& shown) {
    for (const char* before = "["; const int64_t dimension : shown.shape) out << std::exchange(before, ", ") << dimension;
    return out << (shown.shape.empty() ? "[]" : "]");
  }
};

// Takes the JSON parser's events and builds the list of tensors: nothing else of the header is kept.
class HeaderReader final : public Json::json_sax_t {
 public:
  explicit HeaderReader(const std::string& source) : source_(source) {}

  std::vector<SafetensorsTensor> take_tensors() { return std::move(tensors_); }

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(int64_t number) override { return value(number); }
  bool number_float(double, const std::string& text) override { return value(text.substr(0, 40)); }
  bool binary(Json::binary_t&) override { return value("binary"); }

  bool number_unsigned(uint64_t number) override {
    if (at_ == At::shape) {
      check<FileError>(shape_->size() < kMostDimensions, where(), "shape has more than ", kMostDimensions, " dimensions");
      check<FileError>(number <= INT64_MAX, where(), "shape holds ", number, ": a dimension must be below 2^63");
      shape_->push_back(static_cast<int64_t>(number));
      return true;
    }
    if (at_ == At::offsets) {
      check<FileError>(*offsets_count_ < 2, where(), "data_offsets holds more than begin and end");
      offsets_[(*offsets_count_)++] = number;
      return true;
    }
    return value(number);
  }

  bool string(std::string& text) override {
    if (at_ == At::metadata) return true;
    if (at_ == At::tensor && field_ == Field::dtype) {
      const auto* dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& known) { return known.name == text; });
      check<FileError>(dtype != std::end(kDtypes), where(), "unknown dtype ", printable(text));
      dtype_ = dtype;
      field_ = Field::none;
      return true;
    }
    return value("text");
  }

  bool key(std::string& text) override {
    switch (at_) {
      case At::top:
        name_ = std::move(text);
        break;
      case At::metadata:
        check<FileError>(metadata_keys_.insert(text).second, source_, ": __metadata__: key ", printable(text), " stands twice");
        break;
      case At::tensor:
        begin_field(text);
        break;
      default:
        break;
    }
    return true;
  }

  bool start_object(size_t) override {
    ++depth_;
    if (at_ == At::start) {
      at_ = At::top;
    } else if (at_ == At::top && name_ == "__metadata__") {
      check<FileError>(!std::exchange(metadata_seen_, true), source_, ": __metadata__ stands twice");
      at_ = At::metadata;
    } else if (at_ == At::top) {
      at_ = At::tensor;
      dtype_ = nullptr;
      shape_.reset();
      offsets_count_.reset();
    } else {
      start_skipped("an object");
    }
    return true;
  }

  bool end_object() override {
    --depth_;
    if (at_ == At::skipped) {
      end_skipped();
    } else if (at_ == At::tensor) {
      add_tensor();
      at_ = At::top;
    } else if (at_ == At::metadata) {
      at_ = At::top;
    }
    return true;
  }

  bool start_array(size_t) override {
    ++depth_;
    if (at_ == At::tensor && field_ == Field::shape) {
      at_ = At::shape;
      shape_.emplace();
    } else if (at_ == At::tensor && field_ == Field::offsets) {
      at_ = At::offsets;
      offsets_count_ = 0;
    } else {
      start_skipped("an array");
    }
    return true;
  }

  bool end_array() override {
    --depth_;
    if (at_ == At::skipped) {
      end_skipped();
      return true;
    }
    check<FileError>(at_ != At::offsets || offsets_count_ == 2, where(), "data_offsets does not hold begin and end");
    at_ = At::tensor;
    field_ = Field::none;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail<FileError>(source_, ": header: not valid JSON at byte ", 8 + position - 1, " of the file");
  }

 private:
  enum class At { start, top, metadata, tensor, shape, offsets, skipped };
  enum class Field { none, dtype, shape, offsets, unknown };

  Where where() const { return {source_, name_}; }

  void begin_field(const std::string& name) {
    field_ = name == "dtype" ? Field::dtype : name == "shape" ? Field::shape : name == "data_offsets" ? Field::offsets : Field::unknown;
    const bool twice =
        (field_ == Field::dtype && dtype_ != nullptr) || (field_ == Field::shape && shape_) || (field_ == Field::offsets && offsets_count_);
    check<FileError>(!twice, where(), name, " stands twice");
  }

  // A scalar that is no tensor's dimension, offset or dtype: welcome only as (part of) a field that is not read.
  template <class Shown>
  bool value(const Shown& shown) {
    if (at_ == At::skipped) return true;
    if (at_ == At::tensor && field_ == Field::unknown) {
      field_ = Field::none;
      return true;
    }
    refuse(shown);
  }

  template <class Shown>
  [[noreturn]] void refuse(const Shown& shown) {
    switch (at_) {
      case At::start:
        fail<FileError>(source_, ": header: is ", shown, ", not an object");
      case At::top:
        fail<FileError>(source_, ": ", printable(name_), " is ", shown, ", not an object");
      case At::metadata:
        fail<FileError>(source_, ": __metadata__ holds ", shown, ": only text is allowed");
      case At::shape:
        fail<FileError>(where(), "shape holds ", shown, ": only integers from 0 to 2^63-1 are allowed");
      case At::offsets:
        fail<FileError>(where(), "data_offsets holds ", shown, ": only integers from 0 to 2^64-1 are allowed");
      default:
        fail<FileError>(where(), field_ == Field::dtype ? "dtype" : field_ == Field::shape ? "shape" : "data_offsets", " is ", shown);
    }
  }

  void start_skipped(std::string_view shown) {
    if (at_ != At::skipped) {
      if (at_ != At::tensor || field_ != Field::unknown) refuse(shown);
      at_ = At::skipped;
      skipped_depth_ = depth_;
    }
    check<FileError>(depth_ <= kMostDepth, where(), "JSON is nested more than ", kMostDepth, " levels deep");
  }

  void end_skipped() {
    if (depth_ >= skipped_depth_) return;
    at_ = At::tensor;
    field_ = Field::none;
  }

  void add_tensor() {
    check<FileError>(dtype_ != nullptr, where(), "dtype is missing");
    check<FileError>(shape_.has_value(), where(), "shape is missing");
    check<FileError>(offsets_count_.has_value(), where(), "data_offsets is missing");
    uint64_t bits = dtype_->bits;
    bool overflow = false;
    for (const int64_t dimension : *shape_) overflow |= __builtin_mul_overflow(bits, static_cast<uint64_t>(dimension), &bits);
    const ShownShape shown{*shape_};
    check<FileError>(!overflow, where(), "shape ", shown, " has too many elements");
    check<FileError>(bits % 8 == 0, where(), "shape ", shown, " of ", dtype_->name, " does not fill whole bytes");
    const auto [begin, end] = offsets_;
    check<FileError>(begin <= end, where(), "data_offsets [", begin, ", ", end, "] end before they begin");
    check<FileError>(end - begin == bits / 8, where(), "shape ", shown, " of ", dtype_->name, " needs ", bits / 8,
                     " bytes but data_offsets [", begin, ", ", end, "] hold ", end - begin);
    tensors_.push_back({std::move(name_), dtype_->name, std::move(*shape_), begin, end});
  }

  const std::string& source_;
  std::vector<SafetensorsTensor> tensors_;
  std::set<std::string> metadata_keys_;
  bool metadata_seen_ = false;
  At at_ = At::start;
  int depth_ = 0;
  int skipped_depth_ = 0;
  // The tensor being read.
  std::string name_;
  Field field_ = Field::none;
  const Dtype* dtype_ = nullptr;
  std::optional<std::vector<int64_t>> shape_;
  std::optional<size_t> offsets_count_;
  std::array<uint64_t, 2> offsets_{};
};

void expect_distinct_names(const std::vector<SafetensorsTensor>& tensors, const std::string& source) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const SafetensorsTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail<FileError>(source, ": tensor ", printable(*twice), " stands twice");
}

// Sorts the tensors by their bytes, checks that they cover the data, and makes their offsets the file's.
void place(std::vector<SafetensorsTensor>& tensors, uint64_t header_end, uint64_t file_bytes, const std::string& source) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  const uint64_t data_bytes = file_bytes - header_end;
  uint64_t covered = 0;
  for (SafetensorsTensor& tensor : tensors) {
    check<FileError>(tensor.begin == covered, source, ": tensor ", printable(tensor.name), ": data_offsets begin at ", tensor.begin, ", ",
                     tensor.begin > covered ? "leaving a hole after " : "inside another tensor, which ends at ", covered);
    check<FileError>(tensor.end <= data_bytes, source, ": tensor ", printable(tensor.name), ": data_offsets end at ", tensor.end,
                     " but the file has only ", data_bytes, " bytes of data: it was cut short");
    covered = tensor.end;
    tensor.begin += header_end;
    tensor.end += header_end;
  }
  check<FileError>(covered == data_bytes, source, ": has ", data_bytes - covered, " bytes after the last tensor, at byte ",
                   header_end + covered);
}

}  // namespace

std::vector<SafetensorsTensor> parse_safetensors(std::span<const std::byte> file, const std::string& source) {
  check<FileError>(file.size() >= 8, source, ": has ", file.size(), " bytes: too short for a safetensors file");
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < 8; ++i) header_bytes |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  check<FileError>(header_bytes <= kMostHeaderBytes, source, ": header length ", header_bytes, " is above ", kMostHeaderBytes,
                   ": this is not a safetensors file");
  check<FileError>(header_bytes <= file.size() - 8, source, ": header length ", header_bytes, " reaches past the file's ", file.size(),
                   " bytes");
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  check<FileError>(header.starts_with('{'), source, ": header does not begin with '{' at byte 8");
  // The parser takes a NUL for the end of its input.
  const size_t nul = header.find('\0');
  check<FileError>(nul == std::string_view::npos, source, ": header: not valid JSON at byte ", 8 + nul, " of the file");

  HeaderReader reader(source);
  Json::sax_parse(header.begin(), header.end(), &reader);
  std::vector<SafetensorsTensor> tensors = reader.take_tensors();
  expect_distinct_names(tensors, source);
  place(tensors, 8 + header_bytes, file.size(), source);
  return tensors;
}

}  // namespace tessera
