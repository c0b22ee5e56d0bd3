; The real time clock counts; the network card and COM1 wake the main loop. The power button is looked at with each count.
;
; The BIOS left the interrupt controllers as it uses them: lines 0 to 7 are vectors 8 to 15, lines 8 to 15 are 0x70 to 0x77.

PIIX4_PM        equ 1 << 31 | 1 << 11 | 3 << 8          ; of i440fx: where the power management registers are is at 0x40 of
ICH9_LPC        equ 1 << 31 | 31 << 11                  ; these PCI functions

interrupts_start:
        cli
        mov word [(8 + 4) * 4], serial_interrupt
        mov word [(8 + 4) * 4 + 2], 0
        mov word [0x70 * 4], clock_interrupt
        mov word [0x70 * 4 + 2], 0
        mov al, ~(1 << 2 | 1 << 4) & 0xFF       ; the second controller, COM1
        out 0x21, al
        mov al, ~(1 << 0) & 0xFF                ; the real time clock
        out 0xA1, al
        mov dx, COM1 + 1
        mov al, 1                       ; interrupt when a byte is there
        out dx, al
        call clock_start
        call power_management_find
        mov dx, [power_management]
        add dx, 2                       ; PM1 enable: else the button leaves no trace in PM1 status
        mov ax, 1 << 8
        out dx, ax
        mov byte [nic_pending], 1       ; unmasks the card's line
        sti
        ret

; Stop the timer of the BIOS, whose 18 interrupts a second would be most of the cost, and start the real time clock.
clock_start:
        mov al, 0x30                    ; channel 0, mode 0: one count, then nothing
        out 0x43, al
        xor al, al
        out 0x40, al
        out 0x40, al
        mov al, 0x8A                    ; register A: the rate; bit 7 masks NMI meanwhile
        out 0x70, al
        in al, 0x71
        and al, 0xF0
        or al, [parameters.rate]
        mov ah, al
        mov al, 0x8A
        out 0x70, al
        mov al, ah
        out 0x71, al
        mov al, 0x8B                    ; register B: only the periodic interrupt, or that of each second for rate 0
        out 0x70, al
        in al, 0x71
        and al, 0x0F
        mov ah, 0x40
        cmp byte [parameters.rate], 0
        jne .periodic
        mov ah, 0x10
.periodic:
        or ah, al
        mov al, 0x8B
        out 0x70, al
        mov al, ah
        out 0x71, al
        mov al, 0x0C                    ; register C: reading it ends an interrupt that is pending
        out 0x70, al
        in al, 0x71
        ret

clock_interrupt:
        push ax
        push ds
        xor ax, ax
        mov ds, ax
        inc dword [counter]
        mov al, 0x0C
        out 0x70, al
        in al, 0x71
        mov al, 0x20
        out 0xA0, al
        out 0x20, al
        pop ds
        pop ax
        iret

; The line is level-triggered: it stays masked until main has served the card, whose registers are out of reach here
; while the BIOS runs.
nic_interrupt:
        push ax
        push ds
        xor ax, ax
        mov ds, ax
        mov byte [nic_pending], 1
        in al, 0x21
        or al, [nic_line]
        out 0x21, al
        in al, 0xA1
        or al, [nic_line + 1]
        out 0xA1, al
        mov al, 0x20
        out 0xA0, al
        out 0x20, al
        pop ds
        pop ax
        iret

power_management_find:
        mov eax, PIIX4_PM
        call pci_read
        cmp eax, 0x7113 << 16 | 0x8086
        mov eax, PIIX4_PM | 0x40
        je .found
        mov eax, ICH9_LPC | 0x40
.found: call pci_read
        and ax, 0xFFC0                  ; bits 6 (ICH9: 7) to 15
        mov [power_management], ax
        ret

; Power off if the button was pressed, as `virsh shutdown` does.
power_button:
        mov dx, [power_management]      ; PM1 status
        in ax, dx
        test ah, 1
        jnz power_off
        ret

power_off:
        say "off"
        call print_newline
        mov dx, [power_management]
        add dx, 4                       ; PM1 control: sleep type 0, which is S5 in QEMU, and sleep enable
        mov ax, 1 << 13
        out dx, ax
        ret

        align 4
counter:        dd 0
counter_seen:   dd 0
power_management: dw 0
