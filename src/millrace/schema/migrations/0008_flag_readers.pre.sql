-- An account that may read the flags and nothing else: for servers that decide by them.
alter table operator_account
    drop constraint operator_account_role_check,
    add constraint operator_account_role_check
        check (role in ('operator', 'release_manager', 'flag_reader'));
