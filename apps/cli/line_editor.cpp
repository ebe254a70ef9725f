#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <deque>
#include <iostream>
#include <string_view>

#include "cli/signals.h"
#include "core/error.h"

namespace tessera {
namespace {

constexpr std::string_view kBracketsOn = "\033[?2004h", kBracketsOff = "\033[?2004l";  // the terminal then marks what is pasted
constexpr std::string_view kPasteBegin = "\033[200~", kPasteEnd = "\033[201~";
constexpr wchar_t kReturnSign = L'\u23CE', kBadCharacter = L'\uFFFD';
constexpr int kHistoryLines = 1000;

void append_utf8(std::string& text, wchar_t character) {
  const auto code = static_cast<uint32_t>(character);
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace

// libedit asks next() for characters: bytes from the terminal, made into characters here, with the marks of pastes taken out.
struct LineEditor::Terminal {
  Terminal() {
    std::setlocale(LC_CTYPE, "C.UTF-8");  // libedit shows characters by the locale
    edit = el_init("tessera", stdin, stdout, stderr);
    history = history_winit();
    HistEventW event;
    history_w(history, &event, H_SETSIZE, kHistoryLines);
    history_w(history, &event, H_SETUNIQUE, 1);
    el_wset(edit, EL_CLIENTDATA, this);
    el_wset(edit, EL_HIST, history_w, history);
    el_wset(
        edit, EL_PROMPT, +[](EditLine* line) {
          Terminal* self = nullptr;
          el_wget(line, EL_CLIENTDATA, &self);
          return self->prompt.data();
        });
    el_wset(
        edit, EL_GETCFN, +[](EditLine* line, wchar_t* character) {
          Terminal* self = nullptr;
          el_wget(line, EL_CLIENTDATA, &self);
          return self->next(*character);
        });
    el_wset(edit, EL_EDITOR, L"emacs");
    write_out(kBracketsOn);
  }

  ~Terminal() {
    history_wend(history);
    el_end(edit);
    std::fputs(kBracketsOff.data(), stdout);
    std::fflush(stdout);
  }

  // 1: a byte; 0: the input ended or a signal came.
  int read_byte(unsigned char& byte) {
    if (!ahead.empty()) {
      byte = ahead.front();
      ahead.pop_front();
      return 1;
    }
    return ::read(STDIN_FILENO, &byte, 1) == 1 ? 1 : 0;
  }

  // Whether the bytes to come are `mark`; if not, they stay.
  bool take(std::string_view mark) {
    for (size_t i = 0; i < mark.size(); ++i) {
      if (ahead.size() <= i) {
        pollfd ready{STDIN_FILENO, POLLIN, 0};
        unsigned char byte;
        if (::poll(&ready, 1, 50) != 1 || ::read(STDIN_FILENO, &byte, 1) != 1) return false;
        ahead.push_back(byte);
      }
      if (ahead[i] != static_cast<unsigned char>(mark[i])) return false;
    }
    ahead.erase(ahead.begin(), ahead.begin() + static_cast<std::ptrdiff_t>(mark.size()));
    return true;
  }

  int next(wchar_t& character) {
    unsigned char byte;
    for (;;) {
      if (!read_byte(byte)) return 0;
      if (byte != kPasteBegin[0] || !take((pasting ? kPasteEnd : kPasteBegin).substr(1))) break;
      pasting = !pasting;
    }
    character = static_cast<wchar_t>(byte);
    if (pasting && (byte == '\r' || byte == '\n')) character = kReturnSign;
    if (byte < 0x80) return 1;
    const int length = byte >= 0xF0 && byte < 0xF5 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
    uint32_t code = length == 1 || byte >= 0xF5 ? 0 : byte & (0xFFu >> (length + 1));
    for (int i = 1; i < length && code != 0xFFFFFFFF; ++i) {
      if (!read_byte(byte)) return 0;
      if ((byte & 0xC0) == 0x80) {
        code = code << 6 | (byte & 0x3Fu);
      } else {
        ahead.push_front(byte);
        code = 0xFFFFFFFF;
      }
    }
    const bool good = length > 1 && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF) &&
                      code >= (length == 2   ? 0x80u
                               : length == 3 ? 0x800u
                                             : 0x10000u);
    character = good ? static_cast<wchar_t>(code) : kBadCharacter;
    return 1;
  }

  EditLine* edit;
  HistoryW* history;
  std::wstring prompt;
  std::deque<unsigned char> ahead;  // bytes read but not given out
  bool pasting = false;
};

LineEditor::LineEditor() {
  if (::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) terminal_ = std::make_unique<Terminal>();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read_line(const std::string& prompt) {
  std::string line;
  if (!terminal_) {
    SignalWatch::expect_none();
    if (!std::getline(std::cin, line)) {
      SignalWatch::expect_none();
      return std::nullopt;
    }
    return line;
  }
  terminal_->prompt.assign(prompt.begin(), prompt.end());
  int count = 0;
  const wchar_t* typed = el_wgets(terminal_->edit, &count);
  SignalWatch::expect_none();
  if (!typed || count <= 0) return std::nullopt;
  HistEventW event;
  if (count > 1) history_w(terminal_->history, &event, H_ENTER, typed);
  for (int i = 0; i < count; ++i) append_utf8(line, typed[i] == kReturnSign ? L'\n' : typed[i]);
  if (line.ends_with('\n')) line.pop_back();
  return line;
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  std::optional<std::string> entry = read_line(prompt);
  while (entry && entry->ends_with('\\')) {
    entry->back() = '\n';
    const std::optional<std::string> more = read_line("... ");
    if (!more) break;
    *entry += *more;
  }
  return entry;
}

}  // namespace tessera
