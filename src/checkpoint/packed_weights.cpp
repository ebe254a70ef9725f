#include "checkpoint/packed_weights.h"

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
  return message(spec.name, ' ', static_cast<int>(spec.role), ' ', spec.shape, ' ', spec.num_heads, ' ', spec.num_kv_heads, ' ',
                 spec.head_dim, spec.bias == Bias::none ? " " : " with biases ");
}

}  // namespace

PackedWeights::PackedWeights(fs::path path, const WeightSource& source, const Device& device, DataType weights)
    : path_(std::move(path)), identity_(message(device.packed_layout(), ' ', weights, ' ', source.identity())) {
  if (device.packed_layout().empty() || source.identity().empty()) return;
  succeeds([&] {
    if (!is_there(path_.string())) return;
    file_ = std::make_shared<const MappedFile>(path_.string());
    file_->prefer_huge_pages();
    found_ = PackedFile::read(file_->bytes(), identity_);
    file_->expect_unchanged();
  });
  if (found_) return;
  file_.reset();
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : source.tensors()) bytes += tensor.bytes;
  succeeds([&] { writer_ = std::make_unique<PackedFileWriter>(path_, identity_, bytes); });
}

Tensor PackedWeights::take(Device& device, WeightSpec& spec) {
  const std::string name = key(spec);
  if (found_) {
    KeptPieces kept{{}, file_};
    while (const auto piece = found_->find(name + std::to_string(kept.pieces.size()))) kept.pieces.push_back(*piece);
    Tensor restored = device.restore(kept, spec);
    if (!restored) ::unlink(path_.c_str());  // made anew by the next load
    return restored;
  }
  if (writer_)
    spec.keep = [this, name, count = 0](std::span<const std::byte> piece) mutable { add(name + std::to_string(count++), piece); };
  return {};
}

void PackedWeights::add(const std::string& name, std::span<const std::byte> bytes) {
  if (writer_ && !succeeds([&] { writer_->add(name, bytes, PackedFileWriter::Piece::unchecked); })) writer_.reset();
}

std::vector<std::string> PackedWeights::finish(const std::vector<std::string>& notes) {
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
