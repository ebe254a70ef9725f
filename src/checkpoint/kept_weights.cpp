#include "checkpoint/kept_weights.h"

#include <unistd.h>

#include <sstream>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr const char* kNotes = "notes";

// What a device may pack by, so that a model that asks for something else does not find it.
std::string key(const WeightSpec& spec) {
  return message(spec.name, ' ', static_cast<int>(spec.role), ' ', spec.shape[1] * spec.shape[2], ' ', spec.shape[3], ' ', spec.num_heads,
                 ' ', spec.num_kv_heads, ' ', spec.head_dim, spec.bias == Bias::none ? " " : " with biases ");
}

}  // namespace

KeptWeights::KeptWeights(fs::path path, const WeightSource& source, const Device& device, DataType weights)
    : path_(std::move(path)), identity_(message(device.packed_layout(), ' ', weights, ' ', source.identity())) {
  if (device.packed_layout().empty() || source.identity().empty()) return;
  succeeds([&] {
    if (!is_there(path_.string())) return;
    file_ = std::make_shared<const MappedFile>(path_.string());
    file_->prefer_huge_pages();
    found_ = KeptFile::read(file_->bytes(), identity_);
    file_->expect_unchanged();
  });
  if (found_) return;
  file_.reset();
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : source.tensors()) bytes += tensor.bytes;
  succeeds([&] { writer_ = std::make_unique<KeptFileWriter>(path_, identity_, bytes); });
}

Tensor KeptWeights::take(Device& device, const WeightSpec& spec) {
  if (!found_) return {};
  const std::string name = key(spec);
  std::vector<std::span<const std::byte>> pieces;
  while (const auto piece = found_->find(name + std::to_string(pieces.size()))) pieces.push_back(*piece);
  Tensor restored = device.restore(pieces, file_, spec);
  if (!restored) ::unlink(path_.c_str());  // made anew by the next load
  return restored;
}

Device::Keep KeptWeights::keep_of(const WeightSpec& spec) {
  if (!writer_) return {};
  return [this, name = key(spec), count = 0](std::span<const std::byte> piece) mutable { add(name + std::to_string(count++), piece); };
}

void KeptWeights::add(const std::string& name, std::span<const std::byte> bytes) {
  if (writer_ && !succeeds([&] { writer_->add(name, bytes, KeptFileWriter::Piece::unchecked); })) writer_.reset();
}

std::vector<std::string> KeptWeights::finish(const std::vector<std::string>& notes) {
  if (found_) {
    const auto text = found_->find(kNotes).value_or(std::span<const std::byte>());
    std::istringstream lines(std::string(reinterpret_cast<const char*>(text.data()), text.size()));
    std::vector<std::string> kept;
    for (std::string line; std::getline(lines, line);) kept.push_back(line);
    return kept;
  }
  std::string text;
  for (const std::string& note : notes) text += note + "\n";
  add(kNotes, std::as_bytes(std::span(text)));
  if (writer_) succeeds([&] { writer_->finish(); });
  return notes;
}

}  // namespace tessera
