-- Members who were removed before their places in rings and their apps went with them.
insert into ring_change (community_id, change_id, member_id, track, ring, choice, actor, reason,
                         happened_at)
select gone.community_id,
       (select coalesce(max(change_id), 0) from ring_change
         where ring_change.community_id = gone.community_id)
       + row_number() over (partition by gone.community_id order by gone.member_id, track, ring),
       gone.member_id, track, ring, '', member.removed_by, 'the member was removed',
       member.removed_at
  from ring_entry as gone join member using (community_id, member_id)
 where member.removed_at is not null;
delete from ring_entry using member
 where member.community_id = ring_entry.community_id
   and member.member_id = ring_entry.member_id and member.removed_at is not null;
delete from member_app using member
 where member.community_id = member_app.community_id
   and member.member_id = member_app.member_id and member.removed_at is not null;
