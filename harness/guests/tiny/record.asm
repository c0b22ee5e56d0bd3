; The record: what is kept over starts.

record          equ RECORD              ; the layout is that of `read_record` in harness/guests/tiny_guest.py
record.nonce    equ RECORD + 8
record.word     equ RECORD + 40
record.boots    equ RECORD + 72
record.writes   equ RECORD + 76

; Count this start in the record. If there is none of this nonce, make one.
record_start:
        call record_read
        jc .done
        mov si, .magic
        mov di, record
        mov cx, 8
        repe cmpsb
        jne .new
        mov si, parameters.nonce
        mov cx, NAME_BYTES
        repe cmpsb
        je .known
.new:   mov di, record
        mov cx, RECORD_BYTES
        xor al, al
        rep stosb
        mov si, .magic
        mov di, record
        mov cx, 8
        rep movsb
        mov si, parameters.nonce
        mov cx, NAME_BYTES
        rep movsb
.known: inc dword [record.boots]
        call record_write
.done:  ret
.magic: db "BPREC001"

; SI: a word of printable characters, which becomes that of the record. Carry: it is empty, too long, or not a word.
set_word:
        mov bx, si
        mov cx, NAME_BYTES
.check: mov al, [bx]
        test al, al
        jz .end
        inc bx
        cmp al, '!'
        jb .bad
        cmp al, '~'
        ja .bad
        loop .check
.bad:   stc
        ret
.end:   cmp bx, si
        je .bad
        mov di, record.word
        mov bx, cx                      ; NULs that fill the field
        sub cx, NAME_BYTES
        neg cx
        rep movsb
        mov cx, bx
        xor al, al
        rep stosb
        clc
        ret

record_status:  db 0                    ; why it could not be read or written
