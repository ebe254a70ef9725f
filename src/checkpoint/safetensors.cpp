#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr uint64_t kMostHeaderBytes = 100'000'000;
constexpr size_t kMostDimensions = 8;

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
  std::string_view name;
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

// What a value is, in a message.
struct Shown {
  JsonValue value;
  friend std::ostream& operator<<(std::ostream& out, const Shown& shown) {
    if (shown.value.is_object()) return out << "an object";
    if (shown.value.is_array()) return out << "an array";
    if (shown.value.is_string()) return out << "text";
    if (shown.value.is_bool()) return out << "a boolean";
    return out << simdjson::minify(shown.value);
  }
};

// A field that a tensor must have, as the type that it must be of.
template <class T>
T field_of(JsonObject tensor, const Where& where, std::string_view name) {
  const auto value = json_as<JsonValue>(tensor[name]);
  check<FileError>(value.has_value(), where, name, " is missing");
  const auto field = json_as<T>(*value);
  check<FileError>(field.has_value(), where, name, " is ", Shown{*value});
  return *field;
}

uint64_t offset_of(JsonValue value, const Where& where) {
  const auto offset = json_as<uint64_t>(value);
  check<FileError>(offset.has_value(), where, "data_offsets holds ", Shown{value}, ": only integers from 0 to 2^64-1 are allowed");
  return *offset;
}

SafetensorsTensor tensor_of(JsonObject tensor, const Where& where) {
  const auto dtype_name = field_of<std::string_view>(tensor, where, "dtype");
  const auto* dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& known) { return known.name == dtype_name; });
  check<FileError>(dtype != std::end(kDtypes), where, "unknown dtype ", printable(dtype_name));

  std::vector<int64_t> shape;
  uint64_t bits = dtype->bits;
  bool overflow = false;
  for (const JsonValue value : field_of<JsonArray>(tensor, where, "shape")) {
    check<FileError>(shape.size() < kMostDimensions, where, "shape has more than ", kMostDimensions, " dimensions");
    const auto dimension = json_as<uint64_t>(value);
    check<FileError>(dimension.has_value(), where, "shape holds ", Shown{value}, ": only integers from 0 to 2^63-1 are allowed");
    check<FileError>(*dimension <= INT64_MAX, where, "shape holds ", *dimension, ": a dimension must be below 2^63");
    shape.push_back(static_cast<int64_t>(*dimension));
    overflow |= __builtin_mul_overflow(bits, *dimension, &bits);
  }
  const ShownShape shown{shape};
  check<FileError>(!overflow, where, "shape ", shown, " has too many elements");
  check<FileError>(bits % 8 == 0, where, "shape ", shown, " of ", dtype->name, " does not fill whole bytes");

  const auto offsets = field_of<JsonArray>(tensor, where, "data_offsets");
  check<FileError>(offsets.size() == 2, where, "data_offsets holds ", offsets.size(), " values, not begin and end");
  const uint64_t begin = offset_of(*offsets.begin(), where), end = offset_of(*++offsets.begin(), where);
  check<FileError>(begin <= end, where, "data_offsets [", begin, ", ", end, "] end before they begin");
  check<FileError>(end - begin == bits / 8, where, "shape ", shown, " of ", dtype->name, " needs ", bits / 8, " bytes but data_offsets [",
                   begin, ", ", end, "] hold ", end - begin);
  return {std::string(where.name), dtype->name, std::move(shape), begin, end};
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
  const JsonDocument document = parse_json(header, source + ": header", {.max_bytes = kMostHeaderBytes});
  const JsonObject members = *json_as<JsonObject>(document.root());
  std::vector<SafetensorsTensor> tensors;
  for (const auto [name, value] : members) {
    const auto object = json_as<JsonObject>(value);
    check<FileError>(object.has_value(), source, ": ", printable(name), " is ", Shown{value}, ", not an object");
    if (name == "__metadata__") {
      for (const auto field : *object)
        check<FileError>(field.value.is_string(), source, ": __metadata__ holds ", Shown{field.value}, ": only text is allowed");
    } else {
      tensors.push_back(tensor_of(*object, {source, name}));
    }
  }
  place(tensors, 8 + header_bytes, file.size(), source);
  return tensors;
}

}  // namespace tessera
